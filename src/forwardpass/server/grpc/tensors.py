"""Typed contents of the protocol's messages, to arrays and back.

Strict: elements in another field than their datatype's, or too large for it, are refused by the
input's name. Raw contents are read and written by ``server.tensors``, as over HTTP.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from forwardpass.errors import InvalidInput
from forwardpass.server.grpc.generated.inference_pb2 import InferTensorContents
from forwardpass.server.tensors import objects
from forwardpass.types import Array, DType

FIELDS = {
    DType.BOOL: "bool_contents",
    DType.INT8: "int_contents",
    DType.INT16: "int_contents",
    DType.INT32: "int_contents",
    DType.INT64: "int64_contents",
    DType.UINT8: "uint_contents",
    DType.UINT16: "uint_contents",
    DType.UINT32: "uint_contents",
    DType.UINT64: "uint64_contents",
    DType.FP32: "fp32_contents",
    DType.FP64: "fp64_contents",
    DType.BYTES: "bytes_contents",
}  # FP16 and BF16 have none


def array_from_contents(name: str, dtype: DType, shape: tuple[int, ...], contents: InferTensorContents) -> Array:
    """A tensor from an input's ``contents``. Raises ``InvalidInput``."""
    field = FIELDS.get(dtype)
    if field is None:
        raise InvalidInput(f"input {name!r}: {dtype} has no typed contents; send it in `raw_input_contents`")
    values = getattr(contents, field)
    size = math.prod(shape)
    if len(values) != size:
        others = [given.name for given, _ in contents.ListFields() if given.name != field]
        hint = f"; `{others[0]}` is not its field" if others else ""
        raise InvalidInput(
            f"input {name!r}: shape {list(shape)} has {size} elements, `{field}` has {len(values)}{hint}"
        )
    if len(contents.ListFields()) > 1:
        raise InvalidInput(f"input {name!r}: {dtype} goes in `{field}`, and nothing in the other contents")
    if dtype is DType.BYTES:
        return objects(list(values), shape)
    return _numbers(name, dtype, values).reshape(shape)


def _numbers(name: str, dtype: DType, values: Any) -> Array:
    try:
        return np.array(list(values), dtype.numpy)
    except OverflowError:
        limits = np.iinfo(dtype.numpy)
        wrong = next(value for value in values if not limits.min <= value <= limits.max)
        raise InvalidInput(f"input {name!r}: {wrong} is no {dtype} ({limits.min} to {limits.max})") from None


def fill_contents(contents: InferTensorContents, dtype: DType, array: Array) -> None:
    """Write an array into an output's ``contents``; its type must be one of ``FIELDS``."""
    values = array.ravel().tolist()
    if dtype is DType.BYTES:
        values = [value.encode() if isinstance(value, str) else bytes(value) for value in values]
    getattr(contents, FIELDS[dtype]).extend(values)
