"""Both models over the same rows: their answers, and how long single rows take them in turn.

In flow engines and columns, out flow columns and seconds. The road between device and cloud is not in them. Knows no
labels and no threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from forwardpass.engine.batch import run_batch
from forwardpass.engine.engine import Engine
from forwardpass.errors import BackendFailed
from forwardpass.jobs.sizes import create_sizes
from forwardpass.types import Array, Columns

FEWEST, MOST = 20, 2000  # rows that are timed, however long they take
SEED = 3  # of the draw of rows that are timed
_WARM = 5  # runs that do not count


@dataclass(frozen=True)
class Answers:
    """``outputs`` of the rows that ``answered`` (bool, [rows]) marks, in order; ``reason`` why one other has none."""

    outputs: Columns
    answered: Array
    reason: str

    def of(self, rows: Array) -> Columns:
        """The outputs of these rows (bool), all of which must have an answer."""
        return {name: column[rows[self.answered]] for name, column in self.outputs.items()}


def answer(engine: Engine, columns: Columns, name: str) -> Answers:
    """What a model answers, in batches. Raises ``BackendFailed`` where it answers none of the rows."""
    rows = len(next(iter(columns.values())))
    answered, reason = np.ones(rows, bool), ""
    parts: list[Columns] = []
    size = create_sizes(engine.signature, None, None).batch
    for start in range(0, rows, size):
        cut = _rows(columns, slice(start, start + size))
        outputs, failures, _ = run_batch(engine, cut, [1] * len(next(iter(cut.values()))))
        answered[[start + row for row in failures]] = False
        reason = reason or next((f"row {start + row}: {error.message}" for row, error in failures.items()), "")
        parts += [outputs] if outputs else []
    if not parts:
        raise BackendFailed(f"{name} answers none of the rows; {reason}")
    return Answers({key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, answered, reason)


def time_rows(engines: Sequence[Engine], columns: Columns, seconds: float) -> tuple[Array, Array]:
    """Places of rows, and seconds [engines, rows] that each took alone; about ``seconds`` in all."""
    order = np.random.default_rng(SEED).permutation(len(next(iter(columns.values()))))[:MOST]
    for engine in engines:
        for place in order[:_WARM].tolist():
            _timed(engine, _rows(columns, slice(place, place + 1)))
    taken: list[list[float]] = []
    end = perf_counter() + seconds
    for place in order.tolist():
        row = _rows(columns, slice(place, place + 1))
        taken.append([_timed(engine, row) for engine in engines])
        if len(taken) >= FEWEST and perf_counter() > end:
            break
    return order[: len(taken)], np.array(taken).T


def _timed(engine: Engine, row: Columns) -> float:
    started = perf_counter()
    engine.run(row)
    return perf_counter() - started


def _rows(columns: Columns, rows: slice) -> Columns:
    return {name: column[rows] for name, column in columns.items()}
