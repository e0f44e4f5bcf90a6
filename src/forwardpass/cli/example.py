"""A request for a model that has none beside it, made from what it takes: zeros, "text", a tiny image.

In flows a signature, out flows one V1 instance that the model's declared ranges allow. What the
model thinks of it means nothing; it shows the shape of a request.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import Any

from forwardpass.types import DType, InputSpec, InputType, Signature


def example_instance(signature: Signature) -> Any:
    """One entry of ``instances``: by input name, or the bare value of a single input."""
    values = {spec.name: _value(spec, signature.batched) for spec in signature.inputs}
    return next(iter(values.values())) if len(values) == 1 else values


def _value(spec: InputSpec, batched: bool) -> Any:
    fill = _fill(spec)
    whole = spec.type is InputType.TENSOR and not batched
    for axis in reversed(spec.tensor.shape if whole else spec.tensor.shape[1:]):
        fill = [fill] * (1 if axis is None else axis)
    return fill


def _fill(spec: InputSpec) -> Any:
    if spec.type is InputType.IMAGE:
        return {"b64": base64.b64encode(tiny_image()).decode()}
    if spec.categories:
        return spec.categories[0]
    if spec.tensor.dtype is DType.BYTES:
        return "text"[: spec.max_length]
    if spec.tensor.dtype is DType.BOOL:
        return False
    return _number(spec)


def _number(spec: InputSpec) -> int | float:
    """The minimum, else the number nearest to zero that is allowed."""
    number = spec.minimum if spec.minimum is not None else min(0.0, spec.maximum or 0.0)
    if not spec.tensor.dtype.is_float:
        return math.ceil(number) if spec.minimum is not None else math.floor(number)
    return int(number) if number == int(number) else number


def tiny_image() -> bytes:
    """A PNG of 16 by 16 grey pixels: a black block on white."""
    rows = b"".join(b"\0" + bytes(255 * (not (4 <= x < 12 and 4 <= y < 12)) for x in range(16)) for y in range(16))
    header = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
