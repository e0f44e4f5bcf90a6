"""Tensors of the Open Inference Protocol over HTTP, to arrays and back, as JSON and as raw bytes.

Strict: a value that is not of the declared type is refused by name, never rounded, parsed or
wrapped. Raw bytes are little-endian; an element of ``BYTES`` is a length (u32) and that many bytes.
"""

from __future__ import annotations

import math
from struct import unpack_from
from typing import Any

import numpy as np
import orjson

from forwardpass.errors import InvalidInput
from forwardpass.types import Array, DType

_KINDS = {"BOOL": "b", "UINT": "iu", "INT": "iu", "FP": "iuf", "BF": "iuf"}
_WORDS = {"b": "booleans", "i": "whole numbers", "u": "whole numbers", "f": "numbers with a fraction", "U": "texts"}


def array_from_json(name: str, dtype: DType, shape: tuple[int, ...], data: Any) -> Array:
    """A tensor from the ``data`` of a JSON body, flat or nested. Raises ``InvalidInput``."""
    if not isinstance(data, list):
        raise InvalidInput(f"input {name!r}: `data` must be an array, got {shorten(data)}")
    if dtype is DType.BYTES:
        return _texts(name, shape, data)
    try:
        array = np.array(data)
    except ValueError:
        raise InvalidInput(f"input {name!r}: `data` is nested unevenly") from None
    if array.size != math.prod(shape):
        raise wrong_count(name, shape, array.size)
    wanted = next(kinds for prefix, kinds in _KINDS.items() if dtype.startswith(prefix))
    if array.size and array.dtype.kind not in wanted:
        raise InvalidInput(f"input {name!r}: expected {dtype} values, got {_odd_value(data, wanted)}")
    return cast(name, array, dtype).reshape(shape)


def cast(name: str, array: Array, dtype: DType) -> Array:
    """Numbers in another width; a number that does not fit is refused."""
    if array.size and array.dtype.kind in "iu" and dtype.numpy.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        for value in (array.min(), array.max()):
            if not limits.min <= int(value) <= limits.max:
                raise InvalidInput(f"input {name!r}: {value} does not fit {dtype} ({limits.min} to {limits.max})")
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype.numpy, copy=False)
    except FloatingPointError:
        worst = array.flat[int(np.abs(array).argmax())]
        raise InvalidInput(f"input {name!r}: {worst} does not fit {dtype}") from None


def array_from_bytes(name: str, dtype: DType, shape: tuple[int, ...], raw: memoryview) -> Array:
    """A tensor from raw bytes; looks into them, no copy. Raises ``InvalidInput``."""
    if dtype is DType.BYTES:
        return _byte_strings(name, shape, raw)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(raw) != expected:
        raise InvalidInput(
            f"input {name!r}: shape {list(shape)} of {dtype} is {expected} bytes, got {len(raw)} (`binary_data_size`)"
        )
    return np.frombuffer(raw, np.uint8).view(dtype.numpy).reshape(shape)


def bytes_from_array(array: Array) -> bytes:
    """The raw bytes of a tensor."""
    if array.dtype.kind not in "OSU":
        return array.tobytes()
    values = [value.encode() if isinstance(value, str) else bytes(value) for value in array.ravel().tolist()]
    return b"".join(piece for value in values for piece in (len(value).to_bytes(4, "little"), value))


def json_from_array(array: Array) -> bytes:
    """The flat ``data`` of a tensor as JSON. NaN and infinities become ``null``: JSON has none."""
    flat = array.reshape(-1)
    if flat.dtype.kind not in "OSU" and flat.dtype.name != "bfloat16":
        return orjson.dumps(np.ascontiguousarray(flat), option=orjson.OPT_SERIALIZE_NUMPY)
    return orjson.dumps([_json_value(value) for value in flat.tolist()])


def shorten(value: Any) -> str:
    """A value in a message: as JSON where it is, never longer than a line."""
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


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


def _texts(name: str, shape: tuple[int, ...], data: list[Any]) -> Array:
    flat = data
    while flat and isinstance(flat[0], list):
        flat = [value for part in flat for value in (part if isinstance(part, list) else [part])]
    odd = next((value for value in flat if not isinstance(value, str)), None)
    if odd is not None or any(value is None for value in flat):
        raise InvalidInput(f"input {name!r}: expected BYTES values as JSON strings, got {shorten(odd)}")
    if len(flat) != math.prod(shape):
        raise wrong_count(name, shape, len(flat))
    return _objects(flat, shape)


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
    return _objects(values, shape)


def _objects(values: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _odd_value(data: list[Any], wanted: str) -> str:
    """The first value that is not of the kind wanted, for the message."""
    stack = list(reversed(data))
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(reversed(value))
        elif value is None or np.asarray(value).dtype.kind not in wanted:
            return shorten(value)
    return f"a mixture of {' and '.join(sorted({_WORDS.get(kind, kind) for kind in wanted}))}"
