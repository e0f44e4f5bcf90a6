"""Runs the rows of a window on an engine: by length, in batches, one bad row failing only itself.

Rows go in as they are read and come out in that order. Knows no files and no parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from forwardpass.engine.rows import columns_from_instances
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidRows
from forwardpass.jobs.engine import JobEngine
from forwardpass.jobs.mapping import ColumnMap
from forwardpass.jobs.values import Column, output_array, take
from forwardpass.scheduler.lengths import ragged_inputs, row_lengths
from forwardpass.types import Columns

INPUTS, FORWARD = "inputs", "forward pass"  # steps that no model.yaml names


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row has no prediction: the step that did not take it, and what it said."""

    step: str
    reason: str


@dataclass(slots=True)
class Predictions:
    """``columns`` are the outputs of the rows at ``rows``, in order; ``rejected`` are the others."""

    rows: list[int] = field(default_factory=list)
    columns: dict[str, pa.Array] = field(default_factory=dict)
    rejected: dict[int, Rejection] = field(default_factory=dict)
    compute: float = 0.0


class Predictor:
    """One engine, fed with the rows of a data set. ``compute`` counts the seconds of its engine."""

    def __init__(self, engine: JobEngine, columns: ColumnMap, batch_rows: int) -> None:
        self._engine = engine
        self._map = columns
        self._batch_rows = batch_rows
        self._ragged = ragged_inputs(engine.signature)
        self._fields = [columns.outputs.field(spec.name) for spec in engine.signature.outputs]

    def predict(
        self, columns: Mapping[str, Column], rows: Sequence[int], alive: Callable[[], None] = lambda: None
    ) -> Predictions:
        """Predictions for some of the rows of these columns, named by their places.

        ``alive`` is called after each batch: a window of a slow model takes longer than one may be silent.
        """
        answers = _Answers(self._fields)
        if not self._engine.signature.batched:
            self._one_by_one(columns, rows, answers, alive)
        elif rows:
            batch, places = self._taken(columns, rows, answers)
            if self._ragged:
                batch, places = _by_length(batch, places, self._ragged)
            for start in range(0, len(places), self._batch_rows):
                cut = slice(start, start + self._batch_rows)
                self._run({name: array[cut] for name, array in batch.items()}, places[cut], answers)
                alive()
        return answers.in_order()

    def _taken(
        self, columns: Mapping[str, Column], rows: Sequence[int], answers: _Answers
    ) -> tuple[Columns, list[int]]:
        """The batch of all rows whose values suit the model's inputs, and the places of those rows."""
        places = list(rows)
        while places:
            chosen = take(columns, places)
            try:
                return self._map.model_columns(chosen, len(places)), places
            except InvalidRows as error:
                answers.rejected.update({places[row]: Rejection(INPUTS, text) for row, text in error.rows.items()})
                places = [place for row, place in enumerate(places) if row not in error.rows]
            except InvalidInput as error:
                answers.rejected.update(dict.fromkeys(places, Rejection(INPUTS, error.message)))
                places = []
        return {}, []

    def _run(self, batch: Columns, places: Sequence[int], answers: _Answers) -> None:
        outputs, failures, seconds = self._engine.run(batch, len(places))
        answers.compute += seconds
        answers.rejected.update({places[row]: _rejection(error) for row, error in failures.items()})
        answered = [place for row, place in enumerate(places) if row not in failures] if failures else list(places)
        if answered:
            answers.add(outputs, answered)

    def _one_by_one(
        self, columns: Mapping[str, Column], rows: Sequence[int], answers: _Answers, alive: Callable[[], None]
    ) -> None:
        instances = self._map.instances(take(columns, rows), len(rows))
        for place, instance in zip(rows, instances, strict=True):
            try:
                batch = columns_from_instances([instance], self._engine.signature)
            except InvalidInput as error:
                answers.rejected[place] = Rejection(INPUTS, error.message)
                continue
            outputs, failures, seconds = self._engine.run(batch, 1)
            alive()
            answers.compute += seconds
            if failures:
                answers.rejected[place] = _rejection(failures[0])
            else:
                answers.add({name: array[np.newaxis] for name, array in outputs.items()}, [place])


class _Answers:
    """Answers of batches, in the order in which they ran."""

    def __init__(self, fields: Sequence[pa.Field]) -> None:
        self.rejected: dict[int, Rejection] = {}
        self.compute = 0.0
        self._fields = fields
        self._places: list[int] = []
        self._arrays: dict[str, list[pa.Array]] = {field.name: [] for field in fields}

    def add(self, outputs: Columns, places: list[int]) -> None:
        """The rows of a batch. Those that cannot be written are rejected."""
        try:
            arrays = {field.name: output_array(outputs[field.name], field) for field in self._fields}
        except InvalidRows as error:
            self.rejected.update({places[row]: Rejection(FORWARD, text) for row, text in error.rows.items()})
            keep = [row for row in range(len(places)) if row not in error.rows]
            self.add({name: array[keep] for name, array in outputs.items()}, [places[row] for row in keep])
            return
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise BackendFailed(f"the model's outputs are not what it says they are: {error}") from error
        self._places.extend(places)
        for name, array in arrays.items():
            self._arrays[name].append(array)

    def in_order(self) -> Predictions:
        columns = {
            output.name: pa.concat_arrays(self._arrays[output.name] or [pa.array([], output.type)])
            for output in self._fields
        }
        if self._places == sorted(self._places):  # as it is, unless they ran by length
            return Predictions(self._places, columns, self.rejected, self.compute)
        order = np.argsort(self._places, kind="stable")
        columns = {name: column.take(pa.array(order)) for name, column in columns.items()}
        return Predictions([self._places[at] for at in order.tolist()], columns, self.rejected, self.compute)


def _by_length(batch: Columns, places: Sequence[int], ragged: Sequence[str]) -> tuple[Columns, list[int]]:
    """Rows of like length side by side, so that little is padded."""
    order = np.argsort(row_lengths(batch, ragged), kind="stable")
    return {name: array[order] for name, array in batch.items()}, [places[at] for at in order.tolist()]


def _rejection(error: ForwardpassError) -> Rejection:
    return Rejection(error.step or (INPUTS if isinstance(error, InvalidInput) else FORWARD), error.message)
