"""Tensors of the Open Inference Protocol as raw bytes, to arrays and back, and shapes as it writes them.

Little-endian; an element of ``BYTES`` is a length (u32) and that many bytes. The same over HTTP's
binary extension and gRPC. Strict: a wrong number of bytes is refused by the input's name.
"""

from __future__ import annotations

import math
from struct import unpack_from
from typing import Any

import numpy as np

from forwardpass.errors import InvalidInput
from forwardpass.types import Array, DType


def show_shape(shape: tuple[int | None, ...]) -> list[int]:
    """A shape in messages and metadata: free axes are -1."""
    return [-1 if axis is None else axis for axis in shape]


def array_from_bytes(name: str, dtype: DType, shape: tuple[int, ...], raw: memoryview) -> Array:
    """A tensor from raw bytes; looks into them, no copy. Raises ``InvalidInput``."""
    if dtype is DType.BYTES:
        return _byte_strings(name, shape, raw)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(raw) != expected:
        raise InvalidInput(f"input {name!r}: shape {list(shape)} of {dtype} is {expected} raw bytes, got {len(raw)}")
    return np.frombuffer(raw, np.uint8).view(dtype.numpy).reshape(shape)


def bytes_from_array(array: Array) -> bytes:
    """The raw bytes of a tensor."""
    if array.dtype.kind not in "OSU":
        return array.tobytes()
    values = [value.encode() if isinstance(value, str) else bytes(value) for value in array.ravel().tolist()]
    return b"".join(piece for value in values for piece in (len(value).to_bytes(4, "little"), value))


def _byte_strings(name: str, shape: tuple[int, ...], raw: memoryview) -> Array:
    values: list[bytes] = []
    place = 0
    while place < len(raw):
        if place + 4 > len(raw):
            raise InvalidInput(f"input {name!r}: the last element's length is cut off")
        size = unpack_from("<I", raw, place)[0]
        place += 4
        if place + size > len(raw):
            raise InvalidInput(f"input {name!r}: element {len(values)} says {size} bytes, {len(raw) - place} are left")
        values.append(bytes(raw[place : place + size]))
        place += size
    if len(values) != math.prod(shape):
        raise InvalidInput(f"input {name!r}: shape {list(shape)} has {math.prod(shape)} elements, got {len(values)}")
    return objects(values, shape)


def objects(values: list[Any], shape: tuple[int, ...]) -> Array:
    """An array of objects, whatever they are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)
