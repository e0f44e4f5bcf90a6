"""The one table from kinds of errors to gRPC status codes, and how a call ends with an error."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import grpc

from forwardpass.errors import ForwardpassError, Overloaded
from forwardpass.types import Outcome

STATUS = {
    Outcome.OK: grpc.StatusCode.OK,
    Outcome.INVALID_INPUT: grpc.StatusCode.INVALID_ARGUMENT,
    Outcome.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,  # as the library says of a message over its limit
    Outcome.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Outcome.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Outcome.OVERLOADED: grpc.StatusCode.UNAVAILABLE,
    Outcome.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Outcome.TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Outcome.CANCELLED: grpc.StatusCode.CANCELLED,
    Outcome.BACKEND_FAILED: grpc.StatusCode.INTERNAL,
    Outcome.INTERNAL: grpc.StatusCode.INTERNAL,
}


async def abort(context: Any, error: ForwardpassError) -> NoReturn:
    """End a call with the error's code and message, and ``retry-after`` where trying again makes sense."""
    await context.abort(STATUS[error.outcome], error.message, trailing_metadata(error))
    raise AssertionError("abort raises")


def trailing_metadata(error: ForwardpassError) -> tuple[tuple[str, str], ...]:
    """``retry-after`` in whole seconds, as over HTTP."""
    if isinstance(error, Overloaded):
        return (("retry-after", str(max(1, math.ceil(error.retry_after)))),)
    return (("retry-after", "1"),) if error.outcome is Outcome.NOT_READY else ()
