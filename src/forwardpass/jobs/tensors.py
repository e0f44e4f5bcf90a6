"""Requests and answers of the Open Inference Protocol with raw tensors, as its clients write and read them.

Little-endian; an element of ``BYTES`` is a length (u32) and that many bytes. Knows no HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import pack, unpack_from
from typing import Any

import numpy as np
import orjson

from forwardpass.types import Array, Columns, DType, InputSpec


def encode_request(columns: Columns, inputs: Sequence[InputSpec]) -> tuple[int, bytes]:
    """The body of an infer request that asks for raw outputs, and the length of the JSON it begins with."""
    tensors: list[dict[str, Any]] = []
    raws: list[bytes] = []
    for spec in inputs:
        array = columns[spec.name]
        raws.append(_raw(array, spec.tensor.dtype))
        tensors.append(
            {
                "name": spec.name,
                "shape": array.shape,
                "datatype": spec.tensor.dtype,
                "parameters": {"binary_data_size": len(raws[-1])},
            }
        )
    header = orjson.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}})
    return len(header), b"".join((header, *raws))


def decode_answer(body: bytes, header_length: int) -> tuple[Columns, str]:
    """The outputs of an answer, and the model's version or "" where it does not say.

    Raises ``ValueError`` where it is none of this protocol.
    """
    columns: Columns = {}
    place = header_length
    try:
        header = orjson.loads(body[:header_length])
        for output in header["outputs"]:
            size = int(output["parameters"]["binary_data_size"])
            raw = memoryview(body)[place : place + size]
            columns[output["name"]] = _array(raw, DType(output["datatype"]), tuple(output["shape"]))
            place += size
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return columns, str(header.get("model_version", ""))


def _raw(array: Array, dtype: DType) -> bytes:
    if dtype is not DType.BYTES:
        return array.tobytes()
    values = [value.encode() if isinstance(value, str) else bytes(value) for value in array.ravel().tolist()]
    return b"".join(piece for value in values for piece in (pack("<I", len(value)), value))


def _array(raw: memoryview, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype is not DType.BYTES:
        return np.frombuffer(raw, dtype.numpy).reshape(shape)
    array = np.empty(math.prod(shape), object)
    place = 0
    for index in range(len(array)):
        if place + 4 > len(raw):
            raise ValueError(f"{index} texts where there should be {len(array)}")
        size = unpack_from("<I", raw, place)[0]
        array[index] = bytes(raw[place + 4 : place + 4 + size])
        place += 4 + size
    return array.reshape(shape)
