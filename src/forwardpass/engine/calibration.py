"""A worker's own measurements: what batches of several sizes take, while nobody asks anything.

Runs the model on its sample, or on rows made up, with one row, two, four and so on as long as a
batch stays short. A few tenths of a second in all, after the model is ready; the front learns its
cost curve from them before the first caller comes. Knows no queue.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from forwardpass.config import ModelConfig
from forwardpass.engine.engine import Engine
from forwardpass.engine.sample import made_up_columns, sample_columns
from forwardpass.types import Array, Columns, InputType

log = logging.getLogger(__name__)

BUDGET = 0.5  # seconds of work in all
LENGTHS = (1, 4)  # times as long as the sample, for texts
FREE = (16, 64)  # sizes of free axes, for tensors that are made up


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch that ran; its rows are those of ``columns``."""

    columns: Columns
    rows: int
    seconds: float


def calibrate(engine: Engine, config: ModelConfig) -> Iterator[Measured]:
    """Batches that ran, one at each step. Ends early, and says so in the log, where one fails."""
    if not (config.warm_up and engine.signature.batched):
        return
    limits, spent = config.limits, 0.0
    try:
        for columns in rows_of_each_length(engine):
            rows, seconds = 1, 0.0
            while rows <= limits.max_batch_size and (rows <= 2 or 2 * seconds <= limits.max_batch_time):
                batch = {name: np.concatenate([array[:1]] * rows) for name, array in columns.items()}
                first, seconds = _run(engine, batch), _run(engine, batch)
                yield Measured(batch, rows, seconds)
                spent += first + seconds
                if spent > BUDGET:
                    return
                rows *= 2
    except Exception as error:  # noqa: BLE001  a sample that does not fit harms nobody: live batches teach the same
        log.info("%s was not warmed up: %s", engine.name, error)


def _run(engine: Engine, batch: Columns) -> float:
    started = perf_counter()
    engine.run(batch)
    return perf_counter() - started


def rows_of_each_length(engine: Engine) -> Iterator[Columns]:
    """The sample's rows, or one that is made up, once for each length that is tried; nothing where neither can be."""
    signature, sample = engine.signature, engine.info.sample
    if sample is None and engine.has_own_steps:
        return  # a user's code runs on what its users send, or on the sample that they chose
    if sample is None:
        sizes = FREE if any(None in spec.tensor.shape[1:] for spec in signature.inputs) else FREE[:1]
        rows = [columns for free in sizes if (columns := made_up_columns(signature, free)) is not None]
    else:
        rows = [sample_columns(Path(sample.file).read_bytes(), sample.content_type, signature)]
    texts = [spec.name for spec in signature.inputs if spec.type is InputType.TEXT]
    for columns in rows:
        if not len(next(iter(columns.values()))):
            return
        for times in LENGTHS if texts else LENGTHS[:1]:
            yield {name: _longer(array, times) if name in texts else array for name, array in columns.items()}


def _longer(texts: Array, times: int) -> Array:
    longer = np.empty(texts.shape, object)
    longer[...] = [" ".join([text] * times) for text in texts.tolist()]
    return longer
