"""Measuring model folders on a target, each in a process of its own; and parent and candidate in turn.

In flow folders and rows, out flow predictions and figures. What happens to a model's process (it crashes, hangs, or
says what went wrong) is a ``ProbeFailed`` with the reason. Knows no recipes, no gate, and not where the target is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forwardpass.artifacts import artifact_files
from forwardpass.optimize.columnfile import read_columns, write_columns
from forwardpass.optimize.results import Figures
from forwardpass.optimize.targets.base import Order, ProbeFailed, Target
from forwardpass.optimize.targets.local import Local, ended
from forwardpass.registry import ModelFiles
from forwardpass.types import Columns

__all__ = ["ROUNDS", "Predictions", "ProbeFailed", "Probes", "artifact_size", "ended"]

ROUNDS = 3  # in which parent and candidate are measured in turn


@dataclass(frozen=True)
class Predictions:
    """Outputs of the rows that have an answer, in order; ``refused`` says why the others have none."""

    columns: Columns
    refused: dict[int, str]


class Probes:
    """Measures models on one set of rows. ``seconds`` and ``timeout`` are of one probe; ``folder`` is for its files."""

    def __init__(
        self, folder: Path, threads: int | None, seconds: float, timeout: float, target: Target | None = None
    ) -> None:
        """``target`` is this machine unless given."""
        self.timeout = timeout
        self._folder = folder
        self._threads = threads
        self._seconds = seconds
        self._target = target or Local()
        self._rows = folder / "rows.npz"

    def use(self, columns: Columns) -> None:
        """The rows that models are measured on from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_columns(self._rows, columns)

    def predict(self, model: Path) -> Predictions:
        """What a model answers. Raises ``ProbeFailed``, ``TargetFailed``."""
        file = self._folder / "predictions.npz"
        file.unlink(missing_ok=True)
        measured = self._target.measure(Order(model, self._rows, file, self._threads, 0.0, self.timeout))
        columns = read_columns(file)
        file.unlink()
        return Predictions(columns, measured.refused)

    def time(self, model: Path, size: int) -> Figures:
        """How fast and how large a model is; ``size`` in bytes of its artifact. Raises as ``predict``."""
        found = self._target.measure(Order(model, self._rows, None, self._threads, self._seconds, self.timeout))
        return Figures(
            found.start, found.p50, found.p99, found.throughput, found.batch, found.cpu, found.memory, found.peak, size
        )


def artifact_size(files: ModelFiles) -> int:
    """Bytes of an artifact and its weights."""
    return sum(part.stat().st_size for part in artifact_files(files.artifact))
