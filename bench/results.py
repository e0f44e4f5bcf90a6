"""What was measured, by name, and the statistics of it: medians, spread, ratios round by round.

Ratios are taken within each round, between measurements that ran one after the other, and the
median is taken over the rounds: a slow minute of the machine hits both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from bench.answers import WrongAnswer
from bench.load import Load, LoadFailed
from bench.processes import StartFailed

FAILURES = (LoadFailed, StartFailed, WrongAnswer)


@dataclass(frozen=True)
class Summary:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        return cls(statistics.median(values), min(values), max(values))

    @property
    def spread(self) -> float:
        """(highest - lowest) / median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass
class Results:
    """Measurements of each name, one per round, and why a name has none."""

    loads: dict[str, list[Load]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, measure: Callable[[], Load]) -> None:
        """Measure once more under this name. After a failure the name stays failed."""
        if name in self.failed:
            return
        try:
            self.loads.setdefault(name, []).append(measure())
        except FAILURES as reason:
            self.fail(name, reason)

    def fail(self, name: str, reason: object) -> None:
        self.failed[name] = str(reason)
        self.loads.pop(name, None)

    def summary(self, name: str, fact: str) -> Summary:
        """Of a fact of ``Load``: ``rate``, ``p50``, ``p99``, ``cpu_per_request``, ``seconds`` …"""
        return Summary.of([attrgetter(fact)(load) for load in self.loads[name]])

    def ratio(self, over: tuple[str, str], under: tuple[str, str]) -> Summary:
        """Of two facts, each a name and a fact, round by round."""
        pairs = zip(self.loads[over[0]], self.loads[under[0]], strict=True)
        return Summary.of([attrgetter(over[1])(a) / attrgetter(under[1])(b) for a, b in pairs])

    def why_not(self, *names: str) -> str | None:
        """Why one of these was not measured, or ``None`` where all were."""
        for name in names:
            if name not in self.loads:
                return f"{name}: {self.failed.get(name, 'not measured')}"
        return None
