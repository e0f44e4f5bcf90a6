"""What an ONNX file says of itself at its top level: who wrote it, and for which opset.

Reads the few fields it wants from the file's wire format and skips the rest, weights included, so
that a large artifact costs nothing and no library is needed. Knows no graph and no tensors.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Field numbers of ModelProto and OperatorSetIdProto, which the format fixes for ever.
_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _OPSET = 1, 2, 3, 8
_DOMAIN, _VERSION = 1, 2


@dataclass(frozen=True)
class OnnxHeader:
    """``opsets`` maps a domain (``ai.onnx`` for the standard one) to its version."""

    producer: str
    ir_version: int | None
    opsets: dict[str, int]


def read_onnx_header(path: Path) -> OnnxHeader | None:
    """The header of an ONNX file; None where the file cannot be read as one."""
    producer: dict[int, str] = {}
    opsets: dict[str, int] = {}
    ir_version = None
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for number, value in _fields(data, 0, len(data)):
                if number == _IR_VERSION and isinstance(value, int):
                    ir_version = value
                elif number in (_PRODUCER, _PRODUCER_VERSION) and isinstance(value, slice):
                    producer[number] = data[value].decode()
                elif number == _OPSET and isinstance(value, slice):
                    domain, version = _opset(data, value)
                    opsets[domain] = version
    except (OSError, ValueError, IndexError):
        return None
    return OnnxHeader(" ".join(producer[number] for number in sorted(producer) if producer[number]), ir_version, opsets)


def _opset(data: mmap.mmap, where: slice) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in _fields(data, where.start, where.stop):
        if number == _DOMAIN and isinstance(value, slice):
            domain = data[value].decode()
        elif number == _VERSION and isinstance(value, int):
            version = value
    return domain or "ai.onnx", version


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int | slice]]:
    """Each field's number with its whole number, or where its bytes lie. ``ValueError`` where it is none."""
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("not a protobuf message")
        if at + size > end:
            raise ValueError("cut short")
        yield key >> 3, slice(at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("not a number")
