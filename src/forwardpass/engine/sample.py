"""Rows that a model answers: those of its sample file, or made up from what it takes.

For who must run a model before anybody asks: warming it up, showing an example. Knows no protocol
but the files that lie beside artifacts.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import msgspec
import numpy as np

from forwardpass.engine.rows import columns_from_instances, columns_from_texts
from forwardpass.types import Columns, DType, InputSpec, InputType, Signature

MOST_VALUES = 1024  # of a tensor that is made up
_PIXEL = (  # a PNG of one white pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
)


def sample_columns(content: bytes, content_type: str, signature: Signature) -> Columns:
    """The rows of a sample file. Raises what reading and checking them raises: the file is the user's own."""
    if content_type.startswith("image/"):
        return columns_from_instances([content], signature)
    if content_type == "text/plain":
        return columns_from_instances([content.decode()], signature)
    if content_type == "text/csv":
        header, *rows = (line for line in csv.reader(io.StringIO(content.decode()), strict=True) if line)
        return columns_from_texts(header, rows, signature)
    return columns_from_instances(msgspec.json.decode(content)["instances"], signature)


def made_up_columns(signature: Signature, free: int = 1) -> Columns | None:
    """One row (or one whole request) that the model takes; None where none short enough can be made up.

    ``free`` is the size of free axes.
    """
    values = {spec.name: _make_up(spec, signature.batched, free) for spec in signature.inputs}
    if not values or any(value is None for value in values.values()):
        return None
    return columns_from_instances([values], signature)


def _make_up(spec: InputSpec, batched: bool, free: int) -> Any:
    if spec.type is InputType.IMAGE:
        return {"b64": _PIXEL}
    if spec.type is InputType.TEXT:
        return "some text"
    if spec.type is InputType.CATEGORY:
        return spec.categories[0] if spec.categories else "any"
    shape = [free if axis is None else axis for axis in spec.tensor.shape[batched or spec.type is InputType.NUMBER :]]
    if math.prod(shape) > MOST_VALUES:
        return None
    return np.full(shape, _number(spec), object).tolist()


def _number(spec: InputSpec) -> Any:
    if spec.tensor.dtype is DType.BYTES:
        return "any"
    if spec.tensor.dtype is DType.BOOL:
        return False
    if spec.minimum is not None and spec.maximum is not None:
        number = (spec.minimum + spec.maximum) / 2
    else:
        number = max(spec.minimum or 0.0, 0.0) if spec.maximum is None else min(spec.maximum, 0.0)
    return number if spec.tensor.dtype.is_float else math.floor(number)
