"""V1 predict for people: ``{"instances": […]}`` in, ``{"predictions": […]}`` out, and raw bodies.

A raw body is an image (``image/*``), a text (``text/plain``) or a table with a header line
(``text/csv``); any other content type is read as JSON. SageMaker's ``/invocations`` is the same.
"""

from __future__ import annotations

import base64
import csv
import io
from typing import Any

import numpy as np
import orjson

from forwardpass.engine.column import short
from forwardpass.engine.rows import columns_from_instances, columns_from_texts, instances_from_columns
from forwardpass.errors import InvalidInput
from forwardpass.server.http.exchange import JSON, Exchange, Route
from forwardpass.server.served import ServedModel
from forwardpass.types import Array, Columns, InputType


class V1Route(Route):
    """POST /v1/models/NAME:predict."""

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        signature = served.signature
        self._batched = signature.batched
        self._image = served.only_input(InputType.IMAGE)
        self._text = served.only_input(InputType.TEXT)
        self._ragged = any(None in spec.tensor.shape[1:] for spec in signature.inputs)

    def decode(self, exchange: Exchange) -> None:
        columns = self._columns(exchange)
        exchange.columns = columns
        exchange.rows = len(next(iter(columns.values()))) if self._batched and columns else 1
        exchange.nbytes = len(exchange.body)
        exchange.deadline = exchange.arrived + self.served.limits.timeout
        if self._ragged:
            exchange.key = tuple(array.shape[1:] for array in columns.values())

    def encode(self, exchange: Exchange, outputs: Columns) -> tuple[bytes, bytes]:
        if len(outputs) == 1:
            (array,) = outputs.values()
            if array.dtype.kind in "fiub":
                numbers = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
                return JSON, b'{"predictions":%b}' % (numbers if self._batched else b"[" + numbers + b"]")
        rows = instances_from_columns(outputs, self._batched)
        return JSON, orjson.dumps({"predictions": rows}, default=_base64)

    def _columns(self, exchange: Exchange) -> Columns:
        kind = exchange.head.headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        body = bytes(exchange.body)
        if kind.startswith(b"image/"):
            return self._raw(self._image, InputType.IMAGE, body)
        if kind == b"text/plain":
            return self._raw(self._text, InputType.TEXT, _utf8(body))
        if kind == b"text/csv":
            return self._table(_utf8(body))
        return columns_from_instances(self._instances(body, exchange), self.served.signature)

    def _raw(self, name: str | None, wanted: InputType, value: bytes | str) -> Columns:
        """The body is the one row of the one input of its type."""
        inputs = self.served.signature.inputs
        if name is None or len(inputs) > 1:
            takes = ", ".join(f"{spec.name} ({spec.type})" for spec in inputs)
            raise InvalidInput(f"model {self.served.name!r} does not take one {wanted}; it takes {takes}. Send JSON.")
        return {name: _one(value)}

    def _table(self, text: str) -> Columns:
        try:
            lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
        except csv.Error as error:
            raise InvalidInput(f"the body is not valid CSV: {error}") from None
        if not lines:
            raise InvalidInput("the CSV body is empty; its first line must name the inputs")
        return columns_from_texts(lines[0], lines[1:], self.served.signature)

    def _instances(self, body: bytes, exchange: Exchange) -> list[Any]:
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            kind = exchange.head.headers.get(b"content-type", b"").decode("latin-1") or "no content-type"
            raise InvalidInput(f"the body is not valid JSON: {error} (sent as {kind})") from None
        instances = said.get("instances") if isinstance(said, dict) else None
        if not isinstance(instances, list):
            raise InvalidInput(f'expected {{"instances": [one entry per row]}}, got {short(said)}')
        return instances


def _base64(value: Any) -> Any:
    """Bytes in JSON, as V1 writes them."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _one(value: bytes | str) -> Array:
    column = np.empty(1, object)
    column[0] = value
    return column


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not valid UTF-8: {error.reason} at byte {error.start}") from None
