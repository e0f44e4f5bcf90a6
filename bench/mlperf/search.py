"""The highest rate that holds, by a short search: a bracket, then its halves. Knows no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
STEPS = 8  # most probes until there is a rate that holds and one that does not
DOWN = 0.85  # of the rate before, where a longer run does not hold what a short one held


def bracket(start: float, factor: float, holds: Callable[[float], bool], halvings: int) -> float | None:
    """The highest rate found to hold, the next ``factor`` above not holding, halved so many times (geometrically).

    None where none holds.
    """
    low, high, rate = 0.0, 0.0, start
    for _ in range(STEPS):
        if holds(rate):
            low = rate
            rate *= factor
        else:
            high = rate
            rate /= factor
        if low and high:
            break
    for _ in range(halvings if low and high else 0):
        rate = (low * high) ** 0.5
        if holds(rate):
            low = rate
        else:
            high = rate
    return low or None


def confirm(rate: float, attempt: Callable[[float], T], good: Callable[[T], bool], tries: int) -> T | None:
    """The first good outcome from ``rate`` downwards; None where none of ``tries`` is."""
    for _ in range(tries):
        outcome = attempt(rate)
        if good(outcome):
            return outcome
        rate *= DOWN
    return None
