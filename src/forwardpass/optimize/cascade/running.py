"""Both models over the same rows: their answers, and how long single rows take them in turn.

In flow models and columns, out flow columns and seconds, as they are seen from here: of a model elsewhere the road is
in them. Knows no labels, no threshold and no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from forwardpass.engine.batch import run_batch
from forwardpass.engine.engine import Engine
from forwardpass.errors import BackendFailed, ForwardpassError
from forwardpass.jobs.sizes import create_sizes
from forwardpass.types import Array, Columns, Signature

FEWEST, MOST = 20, 2000  # rows that are timed, however long they take
SEED = 3  # of the draw of rows that are timed
_WARM = 5  # runs that do not count


class Member(Protocol):
    """A model that can be asked, wherever it lies."""

    @property
    def signature(self) -> Signature: ...

    def answer(self, columns: Columns) -> tuple[Columns, dict[int, ForwardpassError]]:
        """Outputs of the rows that are answered, in order, and by its place why a row is not."""

    def close(self) -> None: ...


class Here:
    """An engine of this process."""

    def __init__(self, engine: Engine) -> None:
        self.signature = engine.signature
        self._engine = engine

    def answer(self, columns: Columns) -> tuple[Columns, dict[int, ForwardpassError]]:
        outputs, failures, _ = run_batch(self._engine, columns, [1] * len(next(iter(columns.values()))))
        return outputs, failures

    def close(self) -> None:
        self._engine.close()


@dataclass(frozen=True)
class Answers:
    """``outputs`` of the rows that ``answered`` (bool, [rows]) marks, in order; ``reason`` why one other has none."""

    outputs: Columns
    answered: Array
    reason: str

    def of(self, rows: Array) -> Columns:
        """The outputs of these rows (bool), all of which must have an answer."""
        return {name: column[rows[self.answered]] for name, column in self.outputs.items()}


def answer(member: Member, columns: Columns, name: str) -> Answers:
    """What a model answers, in batches. Raises ``BackendFailed`` where it answers none of the rows."""
    rows = len(next(iter(columns.values())))
    answered, reason = np.ones(rows, bool), ""
    parts: list[Columns] = []
    size = create_sizes(member.signature, None, None).batch
    for start in range(0, rows, size):
        outputs, failures = member.answer(_rows(columns, slice(start, start + size)))
        answered[[start + row for row in failures]] = False
        reason = reason or next((f"row {start + row}: {error.message}" for row, error in failures.items()), "")
        parts += [outputs] if outputs else []
    if not parts:
        raise BackendFailed(f"{name} answers none of the rows; {reason}")
    return Answers({key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, answered, reason)


def time_rows(members: Sequence[Member], columns: Columns, seconds: float) -> tuple[Array, Array]:
    """Places of rows, and seconds [members, rows] that each took alone; about ``seconds`` in all."""
    order = np.random.default_rng(SEED).permutation(len(next(iter(columns.values()))))[:MOST]
    for member in members:
        for place in order[:_WARM].tolist():
            _timed(member, _rows(columns, slice(place, place + 1)))
    taken: list[list[float]] = []
    end = perf_counter() + seconds
    for place in order.tolist():
        row = _rows(columns, slice(place, place + 1))
        taken.append([_timed(member, row) for member in members])
        if len(taken) >= FEWEST and perf_counter() > end:
            break
    return order[: len(taken)], np.array(taken).T


def _timed(member: Member, row: Columns) -> float:
    started = perf_counter()
    member.answer(row)
    return perf_counter() - started


def _rows(columns: Columns, rows: slice) -> Columns:
    return {name: column[rows] for name, column in columns.items()}
