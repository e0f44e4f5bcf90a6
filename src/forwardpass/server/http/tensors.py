"""Tensors of the Open Inference Protocol over HTTP, to arrays and back, as JSON.

Strict: a value that is not of the declared type is refused by name, never rounded, parsed or
wrapped. Raw bytes are read and written by ``server.tensors``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

from forwardpass.engine.column import create_column, short
from forwardpass.errors import InvalidInput
from forwardpass.types import Array, DType, InputSpec, TensorSpec


def array_from_json(name: str, dtype: DType, shape: tuple[int, ...], data: Any) -> Array:
    """A tensor from the ``data`` of a JSON body, flat or nested. Raises ``InvalidInput``."""
    if not isinstance(data, list):
        raise InvalidInput(f"input {name!r}: `data` must be an array, got {short(data)}")
    flat = _flat(data, len(shape))
    if len(flat) != math.prod(shape):
        raise wrong_count(name, shape, len(flat))
    return create_column(flat, InputSpec(TensorSpec(name, dtype, (None,))), batched=False).reshape(shape)


def _flat(data: list[Any], axes: int) -> list[Any]:
    """The values of nested lists, in order. Each level is a walk over all, so no more than there may be."""
    for _ in range(axes):
        if not any(isinstance(item, list) for item in data):
            break
        data = [value for item in data for value in (item if isinstance(item, list) else (item,))]
    return data


def json_from_array(array: Array) -> bytes:
    """The flat ``data`` of a tensor as JSON. NaN and infinities become ``null``: JSON has none."""
    flat = array.reshape(-1)
    if flat.dtype.kind in "fiub":
        whole = flat if flat.flags.c_contiguous else np.ascontiguousarray(flat)
        return orjson.dumps(whole, option=orjson.OPT_SERIALIZE_NUMPY)
    return orjson.dumps([_json_value(value) for value in flat.tolist()])


def wrong_count(name: str, shape: tuple[int, ...], count: int) -> InvalidInput:
    wanted = math.prod(shape)
    return InvalidInput(f"input {name!r}: shape {list(shape)} has {wanted} elements, `data` has {count}")


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidInput("an output holds bytes that are not UTF-8; ask for it with `binary_data`") from None
    return value
