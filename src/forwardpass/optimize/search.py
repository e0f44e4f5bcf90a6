"""What a search found, as one value: the reports and the command's output are written from it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.gate import Gate
from forwardpass.optimize.metric import METRICS
from forwardpass.optimize.results import Entry, Figures, Objective


@dataclass(frozen=True)
class Search:
    """``winner`` is the name of the candidate that became ``out``; both are empty where the parent is the best.

    ``rows`` are held-out, ``calibration`` are not, ``unusable`` were left out of both. ``entries`` are all candidates,
    in the order in which they were tried. ``machine`` and ``libraries`` are the target's, where they were measured.
    """

    model: str
    version: str
    metric: str
    output: str
    objective: Objective
    max_drop: float
    rows: int
    calibration: int
    unusable: int
    fingerprint: str
    score: Interval
    parent: Figures
    entries: tuple[Entry, ...]
    winner: str
    out: str
    seconds: float
    machine: dict[str, Any]
    libraries: dict[str, str]
    target: str = "local"

    @property
    def gate(self) -> Gate:
        return Gate(METRICS[self.metric], self.max_drop, self.objective, self.rows)

    @property
    def won(self) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == self.winner), None)
