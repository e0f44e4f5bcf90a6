"""Messages between a front and its workers: one message is one batch.

A frame is two lengths, a msgpack head and a body. The head says of each column its type, its
shape and where its bytes are: in the body, one after the other, or in shared memory.

    <u32 head length> <u32 body length> <head> <body>
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from struct import Struct as Layout
from typing import Any

import msgspec
import numpy as np

from forwardpass import errors
from forwardpass.engine.arena import Arena
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidRows
from forwardpass.types import Array, Columns, DType, ModelInfo, Signature, StageTimes

LENGTHS = Layout("<II")
SHARED_FROM = 64 * 1024  # bytes of a column from which on shared memory beats the socket

_msgpack = msgspec.msgpack.Encoder()


class ColumnHead(msgspec.Struct, array_like=True, gc=False):
    """``offset`` is the place in shared memory; None: the column's bytes are in the body."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    offset: int | None


class BatchHead(msgspec.Struct, array_like=True, tag="batch"):
    """A batch to run; ``rows`` are the row counts of its requests, in order."""

    rows: list[int]
    columns: list[ColumnHead]


class ReplyHead(msgspec.Struct, array_like=True, tag="reply"):
    """A batch that ran: outputs of the requests that succeeded, and (kind, message) of the others."""

    columns: list[ColumnHead]
    failures: dict[int, tuple[str, str]]
    times: StageTimes


class ReadyHead(msgspec.Struct, array_like=True, tag="ready"):
    """A worker that has loaded its engine."""

    signature: Signature
    info: ModelInfo


class FailedHead(msgspec.Struct, array_like=True, tag="failed"):
    """A worker that could not load its engine, and ends."""

    kind: str
    message: str


class MeasuredHead(msgspec.Struct, array_like=True, tag="measured"):
    """What a batch took that a worker ran of its own accord; ``length`` is that of its longest row."""

    rows: int
    length: int
    seconds: float


Head = BatchHead | ReplyHead | ReadyHead | FailedHead | MeasuredHead
_decoder = msgspec.msgpack.Decoder(Head)


def error_from(kind: str, message: str) -> ForwardpassError:
    """The error that a worker named, as the front raises it."""
    cls = getattr(errors, kind, BackendFailed)
    return InvalidInput(message) if cls is InvalidRows else cls(message)


def frame(head: Head, body: Iterable[bytes] = ()) -> bytes:
    """The bytes of a message."""
    encoded = _msgpack.encode(head)
    joined = b"".join(body)
    return b"".join((LENGTHS.pack(len(encoded), len(joined)), encoded, joined))


def decode_head(data: memoryview) -> Head:
    head: Head = _decoder.decode(data)
    return head


def encode_columns(columns: Columns, arena: Arena | None) -> tuple[list[ColumnHead], list[bytes]]:
    """Heads and body pieces of a batch; large columns are written to shared memory on the way."""
    heads, body = [], []
    for name, array in columns.items():
        dtype = require_sendable(name, array)
        if array.nbytes < SHARED_FROM and dtype is not DType.BYTES:  # the usual, and the quick way
            body.append(array.tobytes())
            heads.append(ColumnHead(name, dtype, array.shape, array.nbytes, None))
            continue
        raw = _raw(name, array)
        offset = None
        if arena is not None and raw.nbytes >= SHARED_FROM:
            offset = arena.allocate(raw.nbytes)
        if offset is None or arena is None:
            body.append(raw.tobytes())
        else:
            arena.view(offset, raw.nbytes)[:] = raw
        heads.append(ColumnHead(name, dtype, array.shape, raw.nbytes, offset))
    return heads, body


def decode_columns(heads: list[ColumnHead], body: memoryview, arena: Arena | None) -> Columns:
    """The batch. Columns look into the body or into shared memory; copy what is to outlive them."""
    columns: Columns = {}
    start = 0
    for head in heads:
        if head.offset is not None and arena is not None:
            columns[head.name] = _array(head, arena.view(head.offset, head.nbytes))
            continue
        if head.dtype is DType.BYTES:
            columns[head.name] = _array(head, np.frombuffer(body, np.uint8, head.nbytes, start))
        else:
            columns[head.name] = np.ndarray(head.shape, head.dtype.numpy, body, start)
        start += head.nbytes
    return columns


def require_sendable(name: str, array: Array) -> DType:
    """The column's type. Raises ``BackendFailed`` where it, or an object in the column, cannot be sent."""
    try:
        dtype = DType.of(array)
    except KeyError:
        raise BackendFailed(f"column {name!r} is of type {array.dtype}, which cannot be sent") from None
    if array.dtype.kind == "O":
        kinds = set(map(type, array.ravel().tolist()))
        if not all(issubclass(kind, str | bytes) for kind in kinds):
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise BackendFailed(f"column {name!r} holds {names}; only texts and bytes can be sent")
    return dtype


def _raw(name: str, array: Array) -> Array:
    """The column's bytes as uint8; texts and byte strings as one msgpack list."""
    if array.dtype.kind in "OSU":
        try:
            return np.frombuffer(_msgpack.encode(array.ravel().tolist()), np.uint8)
        except TypeError:  # numpy's own texts and byte strings
            plain = [str(value) if isinstance(value, str) else bytes(value) for value in array.flat]
            return _raw(name, np.array(plain, object))
        except UnicodeEncodeError as error:
            raise BackendFailed(f"column {name!r} holds a text that is not valid Unicode: {error.reason}") from None
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _array(head: ColumnHead, raw: Array) -> Array:
    if head.dtype is not DType.BYTES:
        return raw.view(head.dtype.numpy).reshape(head.shape)
    values: list[Any] = msgspec.msgpack.decode(raw.data)
    array = np.empty(math.prod(head.shape), object)
    array[:] = values
    return array.reshape(head.shape)
