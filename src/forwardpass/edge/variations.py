"""Rows like a given one: the same row by the same number for ever, on every machine.

For golden rows where a person gave fewer than a dozen. Numbers move a little within their range, whole numbers
and texts change places, categories take turns, images are turned and mirrored. What the model thinks of them
means nothing; that it thinks the same everywhere does.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from forwardpass.pipeline.image import open_image
from forwardpass.types import Array, Columns, DType, InputSpec, InputType, Signature

MOST_SIDE = 64  # pixels of a varied image's longer side
_STEP = 0.1  # how far a number moves, of its size
_BLOCK = 65_535  # bytes


def vary(columns: Columns, signature: Signature, number: int) -> Columns:
    """The row (or whole request) that these columns hold, changed in the way of this number; 0 leaves it as it is."""
    if number == 0:
        return columns
    return {spec.name: _varied(columns[spec.name], spec, number) for spec in signature.inputs}


def _varied(column: Array, spec: InputSpec, number: int) -> Array:
    if spec.type is InputType.TEXT:
        return _each(column, lambda text: _vary_text(text, number))
    if spec.type is InputType.IMAGE:
        return _each(column, lambda data: _vary_image(data, number))
    if spec.type is InputType.CATEGORY:
        return _each(column, lambda name: _next(name, spec.categories, number))
    if spec.tensor.dtype.is_float:
        return _vary_numbers(column, spec, number)
    rolled = np.roll(column, number)
    if spec.tensor.dtype in (DType.BOOL, DType.BYTES) or not np.array_equal(rolled, column):
        return rolled
    return np.asarray(_within(column.astype(np.float64) + number, spec), column.dtype)


def _each(column: Array, change: Any) -> Array:
    changed = np.empty(column.shape, object)
    changed.reshape(-1)[:] = [change(value) for value in column.reshape(-1).tolist()]
    return changed


def _next(name: Any, categories: tuple[str, ...], number: int) -> Any:
    at = categories.index(name) if name in categories else 0
    return categories[(at + number) % len(categories)] if categories else name


def _vary_text(text: Any, number: int) -> Any:
    """Its words from another one on; a single word cut short."""
    if not isinstance(text, str):
        return text
    words = text.split()
    if len(words) < 2:
        return text[: max(1, len(text) - number)]
    at = number % len(words)
    return " ".join(words[at:] + words[: max(0, at - number // len(words))])


def _vary_numbers(column: Array, spec: InputSpec, number: int) -> Array:
    if column.dtype.kind == "O":  # rows of unlike shape
        return column
    values = column.astype(np.float64)
    wave = np.sin(np.arange(values.size) * 0.7 * number + number).reshape(values.shape)
    span = (spec.maximum - spec.minimum) if spec.maximum is not None and spec.minimum is not None else 1.0
    moved = values + _STEP * wave * np.where(values == 0, min(span, 1.0), np.abs(values))
    return np.asarray(_within(_short(moved), spec), spec.tensor.dtype.numpy)


def _short(values: Array) -> Array:
    """Four digits, which say the same everywhere and are quick to read."""
    return np.array([float(f"{value:.4g}") for value in values.reshape(-1).tolist()]).reshape(values.shape)


def _within(values: Array, spec: InputSpec) -> Array:
    if spec.minimum is None and spec.maximum is None:
        return values
    return np.clip(values, spec.minimum, spec.maximum)


def _vary_image(data: Any, number: int) -> Any:
    """Fewer pixels, turned by quarters, mirrored, moved; as a PNG that is not compressed. Raises ``ValueError``."""
    image = open_image(data)
    pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "I;16") else "RGB"))
    stride = -(-max(pixels.shape[:2]) // MOST_SIDE)
    pixels = np.rot90(pixels[::stride, ::stride], number % 4)
    if number // 4 % 2:
        pixels = pixels[:, ::-1]
    shade = 1 - 0.05 * (number % 5)
    return encode_png(np.roll(pixels, number // 2, axis=0).astype(np.float64) * shade)


def encode_png(pixels: Array) -> bytes:
    """A PNG of 0 to 255, [height, width] or [height, width, 3]; every library reads it, none is needed to write it."""
    levels = np.clip(pixels, 0, 255).astype(np.uint8)
    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + levels[at].tobytes() for at in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if levels.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _stored(data: bytes) -> bytes:
    """A zlib stream without compression; what a library makes of it may change with the library."""
    blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)] or [b""]
    last = len(blocks) - 1
    parts = [
        struct.pack("<BHH", at == last, len(block), len(block) ^ 0xFFFF) + block for at, block in enumerate(blocks)
    ]
    return b"\x78\x01" + b"".join(parts) + struct.pack(">I", zlib.adler32(data))
