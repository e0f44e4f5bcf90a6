"""``python -m forwardpass.optimize.probe SPEC.json``: one model folder measured in a process of its own.

    spec ─► load ─► first answer ─► predictions of all rows ─► latency ─► throughput ─► memory ─► result file

In a process of its own, so that a model that crashes, hangs or leaks costs no other its measurement, and so that
memory and start time are the model's. Knows no parent, no labels and no gate.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from forwardpass.engine.engine import Engine
    from forwardpass.types import Columns

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spec:
    """What to measure. ``predictions`` "": none are written; ``seconds`` 0: nothing is timed.

    ``rows`` and ``predictions`` are files of columns; ``seconds`` are spent on latency, and again on throughput.
    """

    model: str
    rows: str
    result: str
    predictions: str = ""
    threads: int | None = None
    seconds: float = 1.0


@dataclass(frozen=True)
class Measured:
    """Seconds, rows per second and bytes, as ``Figures`` has them; ``refused`` are rows without an answer, and why."""

    start: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    throughput: float = 0.0
    batch: int = 0
    cpu: float = 0.0
    memory: int = 0
    peak: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    error: str = ""


def measure(spec: Spec) -> Measured:
    """Load and measure. Raises what the model raises."""
    from forwardpass.optimize.columnfile import read_columns, write_columns

    columns = read_columns(Path(spec.rows))
    started = perf_counter()
    from forwardpass.engine.engine import load

    engine = load(spec.model, spec.threads)
    if spec.predictions:
        outputs, refused = _predict(engine, columns)
        write_columns(Path(spec.predictions), outputs)
        return Measured(refused=refused)
    engine.run({name: column[:1] for name, column in columns.items()})
    return _timed(engine, columns, perf_counter() - started, spec.seconds)


def _timed(engine: Engine, columns: Columns, start: float, seconds: float) -> Measured:
    from forwardpass.optimize.timing import best_throughput, latency, memory

    p50, p99 = latency(engine, columns, seconds)
    speed = best_throughput(engine, columns, seconds)
    private, peak = memory()
    return Measured(start, p50, p99, speed.rate, speed.batch, speed.cpu, private, peak)


def _predict(engine: Engine, columns: Columns) -> tuple[Columns, dict[int, str]]:
    """Outputs of all rows that have an answer, in order; and why the others have none."""
    import numpy as np

    from forwardpass.engine.batch import run_batch
    from forwardpass.jobs.sizes import create_sizes

    batch = create_sizes(engine.signature, None, None).batch
    parts: list[Columns] = []
    refused: dict[int, str] = {}
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, batch):
        cut = {name: column[start : start + batch] for name, column in columns.items()}
        outputs, failures, _ = run_batch(engine, cut, [1] * len(next(iter(cut.values()))))
        refused.update({start + row: error.message for row, error in failures.items()})
        if outputs:
            parts.append(outputs)
    names = parts[0] if parts else {}
    return {name: np.concatenate([part[name] for part in parts]) for name in names}, refused


def main(file: str) -> int:
    """Measure what the file says; the result file says how it went, also where it went wrong."""
    spec = msgspec.json.decode(Path(file).read_bytes(), type=Spec)
    try:
        measured = measure(spec)
    except Exception as error:  # the door of this process: whatever a library raises is the answer
        log.debug("the measurement failed", exc_info=error)
        measured = Measured(error=" ".join(str(error).split()) or type(error).__name__)
    Path(spec.result).write_bytes(msgspec.json.encode(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
