"""How often a cascade's first model is wrong where it is sure: a random sample of such rows is asked about too.

The next model's answer counts as right, so what is estimated is how often the two differ, with the interval of Wilson
(1927, "Probable inference, the law of succession, and statistical inference"). Knows no models and asks nobody.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from forwardpass.types import Array

Z = 1.959963984540054  # of the normal distribution, for an interval of 95 %
MOST_WAITING = 256  # rows; what is drawn beyond them is left out, and counted


class Audit:
    """Draws rows, and counts. ``share`` is that of the sure rows which are drawn."""

    def __init__(self, share: float, chance: random.Random) -> None:
        self.share = share
        self.asked = 0
        self.differed = 0
        self.skipped = 0  # drawn, and not answered: too many waited, no money was left, or the asking failed
        self.waiting = 0
        self._chance = chance

    def draw(self, rows: Array) -> Array:
        """Which of these rows (their numbers) to ask about."""
        if self.share <= 0.0:
            return rows[:0]
        drawn: Array = rows[np.array([self._chance.random() < self.share for _ in range(len(rows))], bool)]
        room = max(0, MOST_WAITING - self.waiting)
        self.skipped += max(0, len(drawn) - room)
        return drawn[:room]

    def heard(self, differs: Array) -> None:
        """Answers came; for each row, whether they differ."""
        self.asked += len(differs)
        self.differed += int(differs.sum())

    def statistics(self) -> dict[str, Any]:
        """``disagreement`` is None until one was asked."""
        low, high = wilson(self.differed, self.asked)
        share = self.differed / self.asked if self.asked else None
        counts = {"asked": self.asked, "differed": self.differed, "skipped": self.skipped}
        return {**counts, "disagreement": share, "interval": [low, high]}


def wilson(hits: int, tries: int, z: float = Z) -> tuple[float, float]:
    """The interval in which the share of hits lies; all that is possible where nothing was tried."""
    if tries == 0:
        return 0.0, 1.0
    share = hits / tries
    centre = (share + z * z / (2 * tries)) / (1 + z * z / tries)
    half = z / (1 + z * z / tries) * math.sqrt(share * (1 - share) / tries + z * z / (4 * tries * tries))
    return max(0.0, centre - half), min(1.0, centre + half)
