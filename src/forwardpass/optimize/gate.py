"""The gate: which candidates may replace their parent, and which of them is the best.

Pure functions of what was measured: the same figures always give the same verdict. A candidate must be sure not to
lose more than is allowed, and gain something that is more than noise on what it is made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forwardpass.optimize.bootstrap import Interval, rows_to_decide
from forwardpass.optimize.metric import Metric
from forwardpass.optimize.results import WORDS, Entry, Gain, Objective

LEAST_GAIN = 1.03  # what two measurements of the same model differ by on a machine that others use as well


@dataclass(frozen=True)
class Gate:
    """What is asked of a candidate. ``max_drop`` is a share: 0.005 is half a point, or half a percent of an error."""

    metric: Metric
    max_drop: float
    objective: Objective
    rows: int

    def quality(self, drop: Interval) -> str:
        """Why a drop is too large, with the figures; empty where it is not."""
        if drop.value is None or drop.high is None:
            return f"its {self.metric.name} is not a number on these rows, or its drop has no limit"
        if drop.high <= self.max_drop:
            return ""
        found = f"{self.metric.name} drops by {self.words(drop)}, allowed {self.amount(self.max_drop)}"
        if needed := rows_to_decide(drop, self.rows, self.max_drop):
            return f"{found}: {self.rows} held-out rows cannot tell, about {needed} would"
        return found

    def speed(self, gain: Gain) -> str:
        """Why a gain is too small; empty where it is not."""
        if gain.median >= LEAST_GAIN:
            return ""
        what = WORDS[self.objective]
        kind = "no better than" if gain.median > 1 / LEAST_GAIN else "worse than"
        return f"{kind} the parent in {what}: {times(gain)} (at least {LEAST_GAIN} counts as a gain)"

    def words(self, drop: Interval) -> str:
        """A drop with its interval, in the metric's unit."""
        if drop.value is None or drop.low is None or drop.high is None:
            return "n/a"
        low, high = (f"{100 * end + 0.0:.2f}" for end in (drop.low, drop.high))
        return f"{self.amount(drop.value)} [{low} to {high}]"

    def amount(self, drop: float) -> str:
        """One drop in its unit: points of a share, percent of an error."""
        return f"{100 * drop + 0.0:.2f} {'%' if self.metric.relative else 'points'}"


def times(gain: Gain) -> str:
    """A gain in words, with the rounds' least and greatest."""
    return f"{gain.median:.2f} times ({gain.low:.2f} to {gain.high:.2f})"


def best(entries: Sequence[Entry], objective: Objective) -> Entry | None:
    """The candidate that passed with the greatest gain; None where none did."""
    return next(iter(ranked(entries, objective)), None)


def ranked(entries: Sequence[Entry], objective: Objective) -> list[Entry]:
    """Those that passed, the greatest gain first."""
    passed = [(entry.gains[objective].median, entry) for entry in entries if entry.passed and entry.gains]
    return [entry for _, entry in sorted(passed, key=lambda pair: -pair[0])]
