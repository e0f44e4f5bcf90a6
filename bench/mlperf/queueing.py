"""What any server could reach: random arrivals at an ideal server with batches of a known cost.

The ideal server loses no time: it takes what waits, in order, the moment a replica is idle, in
batches up to the size that is best for the figure. In a second form it also drops at once, at no
cost, what would be late: about the most that any order of work gives, for a few may be late. Pure functions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

CAPS = (1, 2, 3, 4, 6, 8, 16, 32)
STEPS = 9  # halvings of the interval that the rate lies in


@dataclass(frozen=True)
class Queue:
    """``servers`` replicas, on each of which a batch takes ``start + rows * per_row``; all in seconds."""

    start: float
    per_row: float
    bound: float  # from arrival to answer
    servers: int = 1
    arrivals: int = 20_000
    seed: int = 0

    def seconds(self, rows: int) -> float:
        return self.start + rows * self.per_row

    def offline(self) -> float:
        """Rows per second where all wait already."""
        return self.servers * max(cap / self.seconds(cap) for cap in CAPS)

    def most(self, late: float, *, drops: bool) -> float:
        """The highest rate with at most a share ``late`` over the bound."""
        best = 0.0
        for cap in CAPS if self.start else CAPS[:1]:
            share = partial(self._late, cap=cap, drops=drops)
            limit = 1.05 * self.servers * cap / self.seconds(cap) / (1 - late)
            if limit > best and (not best or share(best) <= late):  # else this size is no better
                best = _highest(share, late, best, limit)
        return best

    def _late(self, rate: float, cap: int, drops: bool) -> float:
        """The share of requests over the bound at this rate."""
        chance = np.random.default_rng(self.seed)
        times = np.cumsum(chance.exponential(1 / rate, self.arrivals)).tolist()
        idle = [0.0] * self.servers  # when each replica is free
        late = at = 0
        while at < len(times):
            start = max(heapq.heappop(idle), times[at])
            if drops and start + self.seconds(1) > times[at] + self.bound:
                late, at = late + 1, at + 1
                heapq.heappush(idle, start)
                continue
            rows = self._batch(times, at, start, cap, drops)
            end = start + self.seconds(rows)
            late += sum(end > arrived + self.bound for arrived in times[at : at + rows])
            heapq.heappush(idle, end)
            at += rows
        return late / self.arrivals

    def _batch(self, times: Sequence[float], at: int, start: float, cap: int, drops: bool) -> int:
        """Rows of the batch that starts then, with request ``at`` as its first."""
        rows = 1
        while rows < cap and at + rows < len(times) and times[at + rows] <= start:
            if drops and start + self.seconds(rows + 1) > times[at] + self.bound:
                break
            rows += 1
        return rows


def _highest(share: Callable[[float], float], allowed: float, low: float, high: float) -> float:
    for _ in range(STEPS):
        rate = (low + high) / 2
        if share(rate) <= allowed:
            low = rate
        else:
            high = rate
    return low
