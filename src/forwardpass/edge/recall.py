"""What a prediction over HTTP was, told from its tensors afterwards, and how much memory one takes until then.

The answer has gone out long since; rows are made V1 instances only where somebody looks at them. Knows nobody who does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, overload

from forwardpass.edge.prediction import Prediction, new_id
from forwardpass.edge.predictor import answers_of, confidence_of, instances_of, is_provisional
from forwardpass.server.http.exchange import Exchange
from forwardpass.server.served import ServedModel
from forwardpass.types import Columns

NUMBER, OBJECT = 32, 64  # bytes that Python takes, about


def recall(
    exchange: Exchange, served: ServedModel, outputs: Columns | None, error: str | None
) -> Callable[[], Prediction]:
    """What makes the prediction of an exchange that has just been answered; the exchange itself is not kept for it."""
    columns, at, seconds = exchange.columns, time.time(), time.perf_counter() - exchange.arrived
    name, rows = exchange.id or new_id(), exchange.rows

    def make() -> Prediction:
        given = outputs or {}
        answers = answers_of(given, served.signature.batched) if given else []
        instances = Instances(rows, lambda: instances_of(columns, served))
        return Prediction(
            name, "http", at, served.name, served.version, instances, answers,
            is_provisional(given), confidence_of(given), error, seconds,
        )  # fmt: skip

    return make


class Instances(Sequence[Any]):
    """As many as ``number`` says, made by ``make`` when the first is looked at."""

    def __init__(self, number: int, make: Callable[[], list[Any]]) -> None:
        self._number = number
        self._make = make
        self._made: list[Any] | None = None

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made[index]


def size_of(value: Any) -> int:
    """Bytes of memory, about, of what JSON can say. Numbers of a list are not looked at one by one."""
    if isinstance(value, str):
        return OBJECT + len(value)
    if isinstance(value, dict):
        return OBJECT + sum(map(size_of, value.values()))
    if isinstance(value, list):
        numbers = bool(value) and isinstance(value[0], int | float)
        return OBJECT + (NUMBER * len(value) if numbers else sum(map(size_of, value)))
    return NUMBER
