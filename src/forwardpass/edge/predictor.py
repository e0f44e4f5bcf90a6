"""Predictions inside the agent: rows from an input to the model, and the answers back.

The way in for inputs that are not HTTP. What goes wrong comes back in the ``Prediction``, so that an
input need not know what can. Knows no input, no output and no network.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from forwardpass.edge.prediction import Prediction, new_id
from forwardpass.edge.probation import Asking, ask_alone
from forwardpass.engine.rows import columns_from_instances, instances_from_columns
from forwardpass.errors import BackendFailed, ForwardpassError
from forwardpass.server import asking
from forwardpass.server.asking import Asked
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel, clock
from forwardpass.types import Columns, DType, InputType, Outcome

log = logging.getLogger(__name__)


class Predictor:
    """Asks the model that the agent runs now: ``model`` is its name.

    ``asking`` puts rows to it, or to the version before it; ``note`` is told of every prediction that ended.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        model: str,
        note: Callable[[Prediction], None] = lambda prediction: None,
        asking: Asking = ask_alone,
    ) -> None:
        self.model = model
        self._dataplane = dataplane
        self._note = note
        self._asking = asking

    async def predict(self, rows: list[Any], source: str, id: str | None = None) -> Prediction:
        """The prediction for these V1 instances; with an ``id``, that is what they are called whenever they are asked.

        Never raises for bad rows, a full queue or a dead worker: those are in its ``error``.
        """
        arrived, at = clock(), time.time()
        name, stable = id or new_id(), id is not None
        served: ServedModel | None = None
        try:
            served = self._dataplane.model(self.model)
            served, outputs = await self._ask(served, rows, source, name, stable)
            answers = answers_of(outputs, served.signature.batched)
            sure = confidence_of(outputs)
            prediction = Prediction(
                name, source, at, served.name, served.version, rows, answers, is_provisional(outputs), sure, None,
                clock() - arrived, stable,
            )  # fmt: skip
        except ForwardpassError as error:
            version = served.version if served is not None else ""
            prediction = Prediction(
                name, source, at, self.model, version, rows, [], error=error.message, seconds=clock() - arrived,
                stable=stable,
            )  # fmt: skip
        self._note(prediction)
        return prediction

    async def _ask(
        self, served: ServedModel, rows: list[Any], source: str, id: str, stable: bool
    ) -> tuple[ServedModel, Columns]:
        async def attempt(served: ServedModel) -> tuple[Outcome, Columns | ForwardpassError]:
            try:
                return Outcome.OK, await ask(self._dataplane, served, rows, source, id, stable=stable)
            except ForwardpassError as error:
                return error.outcome, error

        answered, got = await self._asking(served, attempt)
        if isinstance(got, ForwardpassError):
            raise got
        return answered, got


async def ask(
    dataplane: DataPlane, served: ServedModel, rows: Sequence[Any], source: str, id: str = "", *, stable: bool = False
) -> Columns:
    """The outputs of a version for V1 instances. Raises ``ForwardpassError``; cancelled, so is the request."""
    served.require_ready()
    return await asking.ask(dataplane, served, FromInput(_columns(rows, served), served, source, id, stable))


async def answer(dataplane: DataPlane, served: ServedModel, rows: Sequence[Any], source: str) -> list[Any]:
    """The same as V1 predictions."""
    return answers_of(await ask(dataplane, served, rows, source), served.signature.batched)


def _columns(rows: Sequence[Any], served: ServedModel) -> Columns:
    """Raises ``InvalidInput`` for what cannot be rows of the model."""
    try:
        return columns_from_instances(rows, served.signature)
    except ForwardpassError:
        raise
    except Exception as error:  # a door: whatever the outside sends, it is answered
        log.exception("rows could not be read")
        raise BackendFailed(f"the rows could not be read ({type(error).__name__}); the agent's log says why") from None


class FromInput(Asked):
    """Rows of an input. Its door is the kind of the source, such as ``mqtt``."""

    def __init__(self, columns: Columns, served: ServedModel, source: str, id: str, stable: bool) -> None:
        super().__init__(columns, clock() + served.limits.timeout)
        self.id = id
        self.stable = stable
        self.source = source
        self.door = source.partition(":")[0]
        self.rows = self.rows if served.signature.batched else 1
        self.nbytes = sum(array.nbytes for array in columns.values())
        if any(None in spec.tensor.shape[1:] for spec in served.signature.inputs):
            self.key = tuple(array.shape[1:] for array in columns.values())


# Columns as what JSON can say


def answers_of(outputs: Columns, batched: bool) -> list[Any]:
    """Outputs as V1 predictions, of each row a bare value or a mapping by output."""
    return [_plain(value) for value in instances_from_columns(outputs, batched)]


def instances_of(columns: Columns, served: ServedModel) -> list[Any]:
    """Inputs as V1 instances. Texts that came as bytes are texts again."""
    texts = {
        spec.name
        for spec in served.signature.inputs
        if spec.tensor.dtype is DType.BYTES and spec.type is not InputType.IMAGE
    }
    rows = instances_from_columns(columns, served.signature.batched)
    if len(columns) == 1:
        (name,) = columns
        return [_plain(value, name in texts) for value in rows]
    return [{name: _plain(value, name in texts) for name, value in row.items()} for row in rows]


def confidence_of(outputs: Columns) -> float | None:
    """That of the least sure row, where the model has an output of this name."""
    array = outputs.get("confidence")
    if array is None or array.dtype.kind != "f" or not array.size:
        return None
    least = float(np.min(array))
    return least if np.isfinite(least) else None


def is_provisional(outputs: Columns) -> bool:
    """Whether a model that should have been asked was not, for any row."""
    array = outputs.get("provisional")
    return array is not None and array.dtype.kind == "b" and bool(array.any())


def _plain(value: Any, text: bool = False) -> Any:
    if isinstance(value, bytes):
        return _text(value) if text else {"b64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _plain(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, text) for item in value]
    return value


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
