"""Which of two versions is the newer: numbers within the text count as numbers (``10`` is after ``9``).

Knows nothing of what the versions are of.
"""

from __future__ import annotations

import re


def version_order(version: str) -> list[tuple[int, int, str]]:
    """A key to sort versions by, the oldest first."""
    parts = re.findall(r"\d+|\D+", version)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
