"""The words everything else is written in: data types, tensors, rows and the facts of a request.

Floor 0: nothing here imports another part of Forwardpass, knows HTTP, or runs a model.
Everything that moves is a batch of rows held as named columns (``Columns``): a dictionary from
name to array whose first axis is the rows. Strings, byte strings and images that are not decoded
yet are object arrays of ``str`` or ``bytes``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Columns = dict[str, Array]


class DType(StrEnum):
    """Element types, by their names in the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type that holds it; ``BYTES`` is held as objects (``str`` or ``bytes``)."""
        return _numpy_dtype(self)

    @property
    def is_float(self) -> bool:
        return self in (DType.FP16, DType.BF16, DType.FP32, DType.FP64)

    @staticmethod
    def of(array: Array) -> DType:
        """The type of an array; text and byte-string arrays of any numpy flavour are ``BYTES``."""
        return _dtype_of(array.dtype)


_NUMPY_NAMES = {
    DType.BOOL: "bool",
    DType.UINT8: "uint8",
    DType.UINT16: "uint16",
    DType.UINT32: "uint32",
    DType.UINT64: "uint64",
    DType.INT8: "int8",
    DType.INT16: "int16",
    DType.INT32: "int32",
    DType.INT64: "int64",
    DType.FP16: "float16",
    DType.BF16: "bfloat16",
    DType.FP32: "float32",
    DType.FP64: "float64",
    DType.BYTES: "object",
}
_BY_NUMPY_NAME = {name: dtype for dtype, name in _NUMPY_NAMES.items()}


@cache
def _dtype_of(dtype: np.dtype[Any]) -> DType:
    return DType.BYTES if dtype.kind in "OSU" else _BY_NUMPY_NAME[dtype.name]


@cache
def _numpy_dtype(dtype: DType) -> np.dtype[Any]:
    if dtype is DType.BF16:
        import ml_dtypes  # registers bfloat16 with numpy; only models that use it pay for it

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NUMPY_NAMES[dtype])


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of one tensor; ``None`` stands for a free axis.

    The shape is the whole shape: where the model is batched, its first axis is the rows.
    """

    name: str
    dtype: DType
    shape: tuple[int | None, ...]


class InputType(StrEnum):
    """What a caller sends for one input."""

    TENSOR = "tensor"
    NUMBER = "number"
    CATEGORY = "category"
    TEXT = "text"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input as callers send it: its tensor, and what values are allowed in it.

    ``minimum`` and ``maximum`` are inclusive. ``categories`` is empty where any text will do.
    ``required`` false lets a caller leave the value out (``null``): numbers arrive as NaN,
    categories and texts as the empty string. ``max_length`` counts characters of a text or
    category, ``max_pixels`` width times height of an image.
    """

    tensor: TensorSpec
    type: InputType = InputType.TENSOR
    description: str = ""
    required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    allow_nan: bool = True
    categories: tuple[str, ...] = ()
    max_length: int | None = None
    max_pixels: int | None = None

    @property
    def name(self) -> str:
        return self.tensor.name


@dataclass(frozen=True, slots=True)
class Signature:
    """What one loaded version takes and gives.

    ``batched`` true: the first axis of every input and output is rows, and rows of several
    requests may run together. False: every request is run by itself, exactly as it was sent.
    """

    inputs: tuple[InputSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool


class StageTimes(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Seconds that one batch spent in each stage of the engine.

    A msgspec struct, as ``Record``: several are made per batch, and workers send them.
    """

    preprocess: float
    forward: float
    postprocess: float

    @property
    def total(self) -> float:
        return self.preprocess + self.forward + self.postprocess


@dataclass(frozen=True, slots=True)
class Sample:
    """A request kept beside the artifact: the file, and what its bytes are (``image/png`` …).

    ``application/json`` is a V1 body: ``{"instances": […]}``.
    """

    file: str
    content_type: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded version says of itself to people: texts, the pipeline in words, an example."""

    description: str = ""
    backend: str = ""
    artifact: str = ""
    preprocess: tuple[str, ...] = ()
    postprocess: tuple[str, ...] = ()
    sample: Sample | None = None
    tags: dict[str, str] = field(default_factory=dict)


class Outcome(StrEnum):
    """How a request ended. Each error kind names its own (``errors.py``)."""

    OK = "ok"
    INVALID_INPUT = "invalid_input"
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"
    NOT_READY = "not_ready"
    OVERLOADED = "overloaded"
    QUOTA_EXCEEDED = "quota_exceeded"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    BACKEND_FAILED = "backend_failed"
    INTERNAL = "internal"


class Record(msgspec.Struct, frozen=True, gc=False):
    """The facts of one request, made once when it ends; metrics, drift and metering read this.

    Times are seconds, ``at`` is seconds since the epoch, ``compute`` is the request's share (by
    rows) of the time its batch held the worker. A msgspec struct because one is made per request
    on the hot path (0.2 µs against 1 µs for a frozen dataclass of this size).
    """

    id: str
    model: str
    version: str
    door: str
    outcome: Outcome
    at: float
    rows: int
    bytes_in: int
    bytes_out: int
    total: float
    queue: float
    preprocess: float
    forward: float
    postprocess: float
    compute: float
    batch_rows: int
