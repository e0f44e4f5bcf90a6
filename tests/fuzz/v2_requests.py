"""Valid V2 requests for every model of ``models``: the seeds that fuzzing starts from."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from tests.fuzz.models import SIGNATURES

from forwardpass.server.tensors import bytes_from_array
from forwardpass.types import Array, DType, InputSpec


def columns(name: str, rows: int = 2) -> dict[str, tuple[InputSpec, Array]]:
    """Right values for each input of a model."""
    found = {}
    for spec in SIGNATURES[name][1]:
        sizes = [2 if axis is None else axis for axis in spec.tensor.shape]
        shape = [rows, *sizes[1:]] if spec.tensor.shape[0] is None else sizes
        count = math.prod(shape)
        if spec.tensor.dtype is DType.BYTES:
            array = np.full(count, "u", object)
        else:
            array = (np.arange(count) % 2).astype(spec.tensor.dtype.numpy)
        found[spec.name] = (spec, array.reshape(shape))
    return found


def as_json(name: str, **more: Any) -> bytes:
    inputs = [
        {"name": key, "shape": list(array.shape), "datatype": spec.tensor.dtype, "data": plain(array)}
        for key, (spec, array) in columns(name).items()
    ]
    return json.dumps({"inputs": inputs, **more}).encode()


def as_binary(name: str, **more: Any) -> tuple[bytes, bytes]:
    """The JSON header, and the raw tensors."""
    inputs, tail = [], b""
    for key, (spec, array) in columns(name).items():
        raw = bytes_from_array(array)
        tail += raw
        size = {"binary_data_size": len(raw)}
        inputs.append({"name": key, "shape": list(array.shape), "datatype": spec.tensor.dtype, "parameters": size})
    return json.dumps({"inputs": inputs, **more}).encode(), tail


def plain(array: Array) -> Any:
    """As JSON values, nested."""
    return (array.astype(np.float32) if array.dtype == DType.BF16.numpy else array).tolist()
