"""Rows for any model, made from its metadata alone, and tensors as the protocol writes them.

Written from the protocol's text, on purpose without the product's own code: the two check each other.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
Array = NDArray[Any]
FREE = (2, 3, 1, 1)  # sizes given to free axes, in order
TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": object,
}


def holder(datatype: str) -> str:
    """The kit's own model that has an input ``x_T`` and an output ``y_T`` of this type T."""
    return "brain" if datatype == "BF16" else "every-type"


def make(metadata: Json) -> dict[str, Array]:
    """An array for every input that the model's metadata names."""
    return {spec["name"]: values(spec["datatype"], sized(spec["shape"])) for spec in metadata["inputs"]}


def sized(shape: Sequence[int]) -> tuple[int, ...]:
    free = iter(FREE)
    return tuple(next(free) if axis == -1 else axis for axis in shape)


def values(datatype: str, shape: tuple[int, ...]) -> Array:
    """Small values that differ and that every type can hold exactly."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return objects([f"text {index}".encode() for index in range(count)], shape)
    return (np.arange(count) % 5).astype(TYPES[datatype]).reshape(shape)


def objects(items: Sequence[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), object)
    array[:] = list(items)
    return array.reshape(shape)


def datatypes(metadata: Json) -> dict[str, str]:
    return {spec["name"]: spec["datatype"] for spec in metadata["inputs"]}


def as_json(columns: Mapping[str, Array], types: Mapping[str, str], *, nested: bool = False) -> list[Json]:
    """The inputs of a request with their data in JSON, flat or nested."""
    return [
        {"name": name, "shape": list(array.shape), "datatype": types[name], "data": plain(array, nested=nested)}
        for name, array in columns.items()
    ]


def plain(array: Array, *, nested: bool = False) -> Any:
    """A tensor's elements as JSON values."""
    shown = array if nested else array.reshape(-1)
    if array.dtype == object:
        return np.vectorize(lambda item: item.decode(), otypes=[object])(shown).tolist() if array.size else []
    return (shown.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else shown).tolist()


def raw(array: Array) -> bytes:
    """Row-major, little-endian; an element of BYTES is its length in four bytes, and itself."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(item)) + item for item in array.reshape(-1))
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def from_raw(data: bytes, datatype: str, shape: Sequence[int]) -> Array:
    """The tensor that raw bytes hold; they must be exactly as long as it is."""
    if datatype != "BYTES":
        return np.frombuffer(data, TYPES[datatype]).reshape(shape)
    items: list[bytes] = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        assert len(data) >= 4 + size
        items.append(data[4 : 4 + size])
        data = data[4 + size :]
    return objects(items, tuple(shape))


def as_binary(columns: Mapping[str, Array], types: Mapping[str, str], **more: Any) -> tuple[bytes, bytes]:
    """The JSON header of a request, and the raw tensors behind it."""
    tails = {name: raw(array) for name, array in columns.items()}
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": types[name],
         "parameters": {"binary_data_size": len(tails[name])}}
        for name, array in columns.items()
    ]  # fmt: skip
    return json.dumps({"inputs": inputs, **more}).encode(), b"".join(tails.values())


def outputs_of(answer: Json, tail: bytes = b"") -> dict[str, Array]:
    """The outputs of an answer by name, from JSON or from the raw bytes behind it; nothing may be left over."""
    found: dict[str, Array] = {}
    for output in answer["outputs"]:
        shape, datatype = output["shape"], output["datatype"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = _from_json(output["data"], datatype, shape)
        else:
            assert "data" not in output
            found[output["name"]] = from_raw(tail[:size], datatype, shape)
            tail = tail[size:]
    assert not tail
    return found


def _from_json(data: Any, datatype: str, shape: Sequence[int]) -> Array:
    flat = data
    while flat and isinstance(flat[0], list):
        flat = [item for part in flat for item in part]
    assert len(flat) == math.prod(shape)
    if datatype == "BYTES":
        return objects([item.encode() for item in flat], tuple(shape))
    return np.array([math.nan if item is None else item for item in flat]).astype(TYPES[datatype]).reshape(shape)


def same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Equal to the bit, but for the order of the outputs."""
    if set(one) != set(other):
        return False
    return all(one[name].shape == other[name].shape and raw(one[name]) == raw(other[name]) for name in one)
