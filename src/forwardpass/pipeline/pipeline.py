"""A list of steps, opened and checked once, run on batches in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from forwardpass.errors import BackendFailed, ForwardpassError, InvalidModel, nearest
from forwardpass.pipeline.base import Apply, Step
from forwardpass.pipeline.registry import create_step
from forwardpass.pipeline.user import load_user_steps
from forwardpass.types import Columns, TensorSpec

log = logging.getLogger(__name__)


class Pipeline:
    """Steps in order; ``columns`` describes what is there after the last of them."""

    def __init__(self, steps: Sequence[Step], given: Iterable[TensorSpec], folder: Path, where: str) -> None:
        """Open the steps; raises ``InvalidModel`` where one reads a column that is not there yet."""
        self.steps = tuple(steps)
        self.columns = {spec.name: spec for spec in given}
        self.written: list[str] = []
        self._opened: list[tuple[str, Apply]] = []
        for number, step in enumerate(self.steps, 1):
            for name in step.reads:
                if name not in self.columns:
                    hint = nearest(name, self.columns)
                    raise InvalidModel(f"{where} {number} ({step.name}): there is no column {name!r} here.{hint}")
            self._opened.append((step.name, step.open(folder)))
            for spec in step.writes(self.columns):
                self.columns[spec.name] = spec
                self.written.append(spec.name)

    def run(self, columns: Columns) -> Columns:
        """All columns, with those that the steps wrote. Raises what a step raises, named as it is."""
        for name, apply in self._opened:
            try:
                columns = {**columns, **_checked(name, _applied(name, apply, columns), columns)}
            except ForwardpassError as error:
                error.step = name
                raise
        return columns

    def __bool__(self) -> bool:
        return bool(self.steps)


def create_pipeline(entries: Iterable[Any], given: Iterable[TensorSpec], folder: Path, where: str) -> Pipeline:
    """The pipeline of one list of ``model.yaml``; ``where`` names that list in messages."""
    own = load_user_steps(folder)
    steps = [create_step(entry, own, f"{where} {number}") for number, entry in enumerate(entries, 1)]
    return Pipeline(steps, given, folder, where)


def _applied(name: str, apply: Apply, columns: Columns) -> Any:
    try:
        return apply(columns)
    except ForwardpassError:
        raise
    except Exception as error:  # a user's step may raise anything
        log.exception("step %r failed", name)
        raise BackendFailed(f"step {name!r} failed: {type(error).__name__}: {error}") from error


def _checked(name: str, written: Any, before: Columns) -> Columns:
    """A user's step may return anything; a wrong number of rows would give rows to the wrong caller."""
    rows = len(next(iter(before.values())))
    if not isinstance(written, dict):
        raise BackendFailed(f"step {name!r} returned {type(written).__name__}, not a dictionary of columns")
    for column, array in written.items():
        if len(array) != rows:
            raise BackendFailed(f"step {name!r} wrote {len(array)} rows to {column!r} where {rows} came in")
    return written
