"""Measuring model folders with probes, processes of their own; and parent and candidate in turn.

In flow folders and rows, out flow predictions and figures. What happens to a probe (it crashes, hangs, or says what
went wrong) is a ``ProbeFailed`` with the reason. Knows no recipes and no gate.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from forwardpass.artifacts import artifact_files
from forwardpass.errors import BackendFailed
from forwardpass.optimize.columnfile import read_columns, write_columns
from forwardpass.optimize.probe import Measured, Spec
from forwardpass.optimize.results import Figures
from forwardpass.registry import ModelFiles
from forwardpass.types import Columns

ROUNDS = 3  # in which parent and candidate are measured in turn
_TAIL = 300  # characters of what a crashed process said last


class ProbeFailed(BackendFailed):
    """A model could not be measured; the message says why in one line."""


@dataclass(frozen=True)
class Predictions:
    """Outputs of the rows that have an answer, in order; ``refused`` says why the others have none."""

    columns: Columns
    refused: dict[int, str]


class Probes:
    """Measures models on one set of rows. ``seconds`` and ``timeout`` are of one probe."""

    def __init__(self, folder: Path, threads: int | None, seconds: float, timeout: float) -> None:
        self.timeout = timeout
        self._folder = folder
        self._threads = threads
        self._seconds = seconds
        self._rows = folder / "rows.npz"

    def use(self, columns: Columns) -> None:
        """The rows that models are measured on from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_columns(self._rows, columns)

    def predict(self, model: Path) -> Predictions:
        """What a model answers. Raises ``ProbeFailed``."""
        file = self._folder / "predictions.npz"
        file.unlink(missing_ok=True)
        measured = self._probe(model, str(file))
        columns = read_columns(file)
        file.unlink()
        return Predictions(columns, measured.refused)

    def time(self, model: Path, size: int) -> Figures:
        """How fast and how large a model is; ``size`` in bytes of its artifact. Raises ``ProbeFailed``."""
        found = self._probe(model, "")
        return Figures(
            found.start, found.p50, found.p99, found.throughput, found.batch, found.cpu, found.memory, found.peak, size
        )

    def _probe(self, model: Path, predictions: str) -> Measured:
        file, result, said = (self._folder / f"probe.{end}" for end in ("json", "result.json", "log"))
        result.unlink(missing_ok=True)
        seconds = 0.0 if predictions else self._seconds
        spec = Spec(str(model.absolute()), str(self._rows), str(result), predictions, self._threads, seconds)
        file.write_bytes(msgspec.json.encode(spec))
        with said.open("wb") as log:
            status = _run([sys.executable, "-m", "forwardpass.optimize.probe", str(file)], log.fileno(), self.timeout)
        if not result.is_file():
            raise ProbeFailed(_ended(status, said))
        measured = msgspec.json.decode(result.read_bytes(), type=Measured)
        if measured.error:
            raise ProbeFailed(measured.error)
        return measured


def artifact_size(files: ModelFiles) -> int:
    """Bytes of an artifact and its weights."""
    return sum(part.stat().st_size for part in artifact_files(files.artifact))


def ended(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        try:
            return f"its process was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"its process was killed by signal {-status}"
    return f"its process ended with status {status}"


def _run(command: list[str], log: int, timeout: float) -> int:
    """A process's exit status. Nothing of it is left, however this ends."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise ProbeFailed(f"its process did not end within {timeout:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _ended(status: int, said: Path) -> str:
    last = " ".join(said.read_text(errors="replace").split())[-_TAIL:]
    return f"{ended(status)}{f': {last}' if last else ''}"
