"""A histogram of seconds that keeps every value to half a percent, however many there are.

Buckets grow by one percent each, so a percentile is wrong by less than that at any scale, from
nanoseconds to days, and two histograms add up to the one of all values. Knows nothing of requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

GROWTH = 1.01  # a bucket's upper end, as a multiple of its lower end
SMALLEST = 1e-9  # seconds; what is below counts as this
_SCALE = 1.0 / math.log(GROWTH)
_log, _floor = math.log, math.floor


class Histogram:
    """Counts of durations in seconds, by logarithmic buckets.

    ``count``, ``sum``, ``min`` and ``max`` are exact; ``min`` and ``max`` are 0.0 where there is no value.
    """

    __slots__ = ("buckets", "count", "max", "min", "sum")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.sum = self.min = self.max = 0.0
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Count one duration. The hot path: called for every answer."""
        bucket = _floor(_log(value if value > SMALLEST else SMALLEST) * _SCALE)
        buckets = self.buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1
        self.sum += value
        if value > self.max:
            self.max = value
        if value < self.min or not self.count:
            self.min = value
        self.count += 1

    def merge(self, other: Histogram) -> None:
        """Count all that the other has counted as well."""
        if not other.count:
            return
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        self.sum += other.sum
        self.count += other.count
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The smallest value that at least ``percent`` of all values do not exceed, within half a percent.

        0.0 where there is no value.
        """
        wanted, seen = self.count * percent / 100, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(max(_middle(bucket), self.min), self.max)
        return self.max

    def curve(self) -> list[tuple[float, float]]:
        """(percent, seconds) of every bucket in order: the share of values up to it. Ends with 100 and the maximum."""
        points, seen = [], 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            points.append((100 * seen / self.count, min(max(_middle(bucket), self.min), self.max)))
        return [*points[:-1], (100.0, self.max)] if points else []

    def summary(self) -> dict[str, Any]:
        """Plain facts, in seconds: count, mean, p50, p90, p99, p99.9, max."""
        marks = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}
        percentiles = {name: self.percentile(percent) for name, percent in marks.items()}
        return {"count": self.count, "mean": self.mean, **percentiles, "max": self.max}


def _middle(bucket: int) -> float:
    """The geometric middle of a bucket: no value in it is further off than half its growth."""
    return math.exp((bucket + 0.5) / _SCALE)
