"""What was asked for, and what was chosen and measured: plain values that the reports write as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forwardpass.optimize.bootstrap import Interval


@dataclass(frozen=True)
class Aim:
    """What the threshold is chosen for; exactly one is given, each a share.

    ``accuracy`` to reach; ``below`` the large model's accuracy on the same rows; rows ``escalated`` at most.
    """

    accuracy: float | None = None
    below: float | None = None
    escalated: float | None = None

    def words(self, large: str) -> str:
        if self.escalated is not None:
            return f"at most {100 * self.escalated:.4g} % of rows escalated"
        if self.accuracy is not None:
            return f"an accuracy of {100 * self.accuracy:.4g} %"
        return f"the accuracy of {large} less {100 * (self.below or 0.0):.4g} points"


@dataclass(frozen=True)
class Latency:
    """Seconds of single rows, preprocessing and postprocessing included."""

    p50: Interval
    p99: Interval
    mean: Interval


@dataclass(frozen=True)
class Point:
    """A threshold, the share of judging rows below it, and the accuracy with those escalated."""

    threshold: float
    share: float
    accuracy: Interval


@dataclass(frozen=True)
class Chosen:
    """What the choosing rows said of the threshold, which flatters it: it was chosen on them."""

    rows: int
    share: float
    accuracy: float


@dataclass(frozen=True)
class Measured:
    """Of rows that did not choose: 95 % intervals, shares between 0 and 1.

    ``drop`` is by how much the cascade is less accurate than the large model, ``gain`` more than the small one;
    ``disagreement`` the share of rows that small and large answer differently; ``error_before`` and ``error_after``
    the small model's expected calibration error without and with its temperature. ``timed`` rows gave the latencies.
    """

    rows: int
    small_accuracy: Interval
    large_accuracy: Interval
    accuracy: Interval
    drop: Interval
    gain: Interval
    share: Interval
    disagreement: Interval
    error_before: Interval
    error_after: Interval
    timed: int
    small_latency: Latency
    large_latency: Latency
    latency: Latency
    curve: tuple[Point, ...] = field(repr=False)


@dataclass(frozen=True)
class Calibration:
    """Everything that came of it. ``cost`` is of 1,000 rows, ``price`` of one that is escalated.

    ``outputs`` are what the cascade answers with; empty: all that both models have. ``elsewhere``: the large model was
    asked where it lies, so its latency has the road in it.
    """

    small: str
    large: str
    aim: Aim
    label: str
    output: str
    outputs: tuple[str, ...]
    confidence: str
    temperature: float
    threshold: float
    chosen: Chosen
    measured: Measured
    unusable: int
    fingerprint: str
    price: float
    cost: Interval
    machine: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    elsewhere: bool = False
