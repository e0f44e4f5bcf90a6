"""Fuzz target: the decoder of messages between a front and its workers.

The bytes are a frame, as it comes from the other end. It is decoded, or refused with an exception
that ends the link (the worker is then started again); what was decoded survives another round trip.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["forwardpass.engine"]):
    import math

    import msgspec
    from tests.fuzz.models import SIGNATURES, TIMES, served
    from tests.fuzz.runner import fuzz
    from tests.fuzz.v2_requests import columns

    from forwardpass.engine.messages import (
        LENGTHS,
        BatchHead,
        FailedHead,
        ReadyHead,
        ReplyHead,
        decode_columns,
        decode_head,
        encode_columns,
        frame,
    )
    from forwardpass.errors import BackendFailed
    from forwardpass.types import DType, ModelInfo

REFUSALS = (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError)
MOST = 1 << 20  # elements of a column of texts: more are set aside before it is seen that they are not there


def target(data: bytes) -> None:
    if len(data) < LENGTHS.size:
        return
    head_size = LENGTHS.unpack_from(data)[0]
    view = memoryview(data)[LENGTHS.size :]
    try:
        head = decode_head(view[:head_size])
        if not isinstance(head, BatchHead | ReplyHead):
            return
        if any(item.dtype is DType.BYTES and math.prod(item.shape) > MOST for item in head.columns):
            return
        found = decode_columns(head.columns, view[head_size:], None)
    except REFUSALS:
        return
    try:
        heads, body = encode_columns(found, None)
    except BackendFailed:
        return  # elements that are neither text nor bytes
    again = decode_columns(heads, memoryview(b"".join(body)), None)
    for name, array in found.items():
        assert array.shape == again[name].shape
        assert array.tobytes() == again[name].tobytes() or array.dtype == object
        assert array.dtype != object or array.ravel().tolist() == again[name].ravel().tolist()


def seeds() -> list[bytes]:
    found = [frame(FailedHead("BackendFailed", "why"))]
    for name in SIGNATURES:
        heads, body = encode_columns({key: array for key, (_, array) in columns(name).items()}, None)
        found.append(frame(BatchHead([1, 1], heads), body))
        found.append(frame(ReplyHead(heads, {1: ("InvalidInput", "why")}, TIMES), body))
        found.append(frame(ReadyHead(served(name).signature, ModelInfo())))
    return found


if __name__ == "__main__":
    fuzz(target, seeds())
