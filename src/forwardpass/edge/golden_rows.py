"""Where golden rows come from: rows that a person gave, else the model's sample, else made up; a dozen of them.

In flow an engine and rows, out flow rows as V1 instances with their answers. A row is asked about by itself, as
the device will, from what JSON says of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from forwardpass.edge.golden import Golden, plain
from forwardpass.edge.variations import vary
from forwardpass.engine.engine import Engine
from forwardpass.engine.rows import columns_from_instances, instances_from_columns
from forwardpass.engine.sample import made_up_columns, sample_columns
from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel
from forwardpass.types import Array, Columns, InputType, Sample, Signature

COUNT = 12
_MOST_TRIES = 5 * COUNT


def make_golden(engine: Engine, rows: Sequence[Any] = ()) -> Golden:
    """A dozen rows and what the engine answers.

    Raises ``InvalidInput`` for a given row that the model does not take, ``InvalidModel`` where none can be made.
    """
    for at, row in enumerate(rows[:COUNT]):
        try:
            engine.predict([row])
        except (InvalidInput, BackendFailed) as error:
            raise InvalidInput(f"{engine.name}: row {at} of the golden rows is not taken: {error.message}") from None
    instances: list[Any] = []
    answers: list[Any] = []
    why = ""
    with _quiet():
        for instance in _candidates(engine, rows):
            if len(instances) < COUNT and instance not in instances:
                try:
                    answers += engine.predict([instance])
                except (InvalidInput, BackendFailed) as error:  # a variation that the model does not take
                    why = why or f" ({error.message})"
                    continue
                instances.append(instance)
    if not instances:
        raise InvalidModel(
            f"{engine.name}: no golden rows can be made up for it{why}; give rows that it takes: --rows FILE"
        )
    return Golden(engine.name, instances, answers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is logged of rows that fail: there may be dozens, for one reason."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _candidates(engine: Engine, rows: Sequence[Any]) -> Iterator[Any]:
    """Rows as they were given, then those that are like them. Each as JSON will say it."""
    signature = engine.signature
    for row in rows[:COUNT]:
        yield _through_json(row)
    given = _given(engine, rows[:COUNT])
    start = len(given) if rows else 0
    for number in range(start, _MOST_TRIES if given else 0):
        try:
            varied = vary(given[number % len(given)], signature, number // len(given))
        except ValueError:  # an image that cannot be read
            continue
        yield _through_json(_instance(varied, signature))


def _given(engine: Engine, rows: Sequence[Any]) -> list[Columns]:
    """Every row (or whole request) by itself, as columns."""
    signature, sample = engine.signature, engine.info.sample
    if rows:
        return [columns_from_instances([row], signature) for row in rows]
    columns = _of_sample(sample, signature) if sample else made_up_columns(signature)
    if columns is None:
        return []
    if not signature.batched:
        return [columns]
    count = len(next(iter(columns.values())))
    return [{name: array[at : at + 1] for name, array in columns.items()} for at in range(count)]


def _of_sample(sample: Sample, signature: Signature) -> Columns:
    try:
        return sample_columns(Path(sample.file).read_bytes(), sample.content_type, signature)
    except (InvalidInput, ValueError, KeyError, TypeError) as reason:
        raise InvalidModel(f"{Path(sample.file).name}: is no sample of this model: {reason}") from None


def _instance(columns: Columns, signature: Signature) -> Any:
    """One row as V1 says it; where rows are not batched, one whole request."""
    values = {}
    for spec in signature.inputs:
        one_row = signature.batched or spec.type is not InputType.TENSOR
        values[spec.name] = instances_from_columns({spec.name: _shortest(columns[spec.name])}, one_row)[0]
    return next(iter(values.values())) if len(values) == 1 else values


def _shortest(column: Array) -> Array:
    """Floats by the fewest digits that mean them, such as 0.1 for the FP32 next to it."""
    if column.dtype.kind != "f" or column.dtype.itemsize > 4:
        return column
    return np.array([float(str(value)) for value in column.reshape(-1)]).reshape(column.shape)


def _through_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(plain(value)))
