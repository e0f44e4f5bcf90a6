"""What is known of a candidate: its figures, its quality, its gains, and whether it passed.

Plain values that are written to the ledger, the lineage and the reports as they are. Measures and judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from statistics import median
from typing import Any, Literal

from forwardpass.optimize.bootstrap import Interval

Objective = Literal["latency", "throughput", "size", "cost"]
OBJECTIVES: dict[Objective, str] = {  # objective -> field of ``Figures``
    "latency": "p50",
    "throughput": "throughput",
    "size": "size",
    "cost": "cpu",
}
WORDS: dict[Objective, str] = {
    "latency": "median latency at batch 1",
    "throughput": "throughput",
    "size": "size",
    "cost": "processor time per row",
}


@dataclass(frozen=True)
class Figures:
    """What one process measured of one model folder.

    Seconds: ``start`` from nothing loaded to the first answer, ``p50`` and ``p99`` of a batch of one row, ``cpu`` of
    processor time per row at the best batch. ``throughput`` is rows per second at ``batch`` rows, the best of those
    tried. Bytes: ``memory`` that only this process holds (0 where the system does not tell), ``peak`` resident,
    ``size`` of the artifact with its weights.
    """

    start: float
    p50: float
    p99: float
    throughput: float
    batch: int
    cpu: float
    memory: int
    peak: int
    size: int


@dataclass(frozen=True)
class Gain:
    """How many times better than the parent, over rounds in which both were measured in turn: above 1 is better."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class WorstRow:
    """A held-out row that the candidate lost: its place in the data, what is right, and what each model answered."""

    row: int
    label: str
    parent: str
    candidate: str
    loss: float
    input: str


@dataclass(frozen=True)
class Quality:
    """How good the answers are. ``agreement`` is with the parent: 1 is the same answers."""

    score: float | None
    drop: Interval
    agreement: float
    worst: tuple[WorstRow, ...]


@dataclass(frozen=True)
class Entry:
    """One candidate, done with. ``failure`` says why there are no measurements; ``reason`` is the verdict in a line."""

    name: str
    title: str
    passed: bool
    reason: str
    failure: str = ""
    quality: Quality | None = None
    figures: Figures | None = None
    gains: dict[str, Gain] | None = None
    rounds: int = 0
    seconds: float = 0.0


def middle(figures: list[Figures]) -> Figures:
    """The median of each figure."""
    values: dict[str, Any] = {}
    for item in fields(Figures):
        value = median(getattr(one, item.name) for one in figures)
        values[item.name] = int(value) if item.type == "int" else float(value)
    return Figures(**values)


def gains(rounds: list[tuple[Figures, Figures]]) -> dict[str, Gain]:
    """By objective, from rounds of parent and candidate."""
    found: dict[str, Gain] = {}
    for objective, name in OBJECTIVES.items():
        ratios = [_ratio(getattr(parent, name), getattr(candidate, name), objective) for parent, candidate in rounds]
        found[objective] = Gain(median(ratios), min(ratios), max(ratios))
    return found


def _ratio(parent: float, candidate: float, objective: Objective) -> float:
    better, worse = (candidate, parent) if objective == "throughput" else (parent, candidate)
    return better / worse if worse else 1.0
