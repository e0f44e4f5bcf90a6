"""The one table from kinds of errors to HTTP status codes, and what an error looks like."""

from __future__ import annotations

import http
import math

import orjson

from forwardpass.errors import ForwardpassError, Overloaded
from forwardpass.types import Outcome

STATUS = {
    Outcome.OK: 200,
    Outcome.INVALID_INPUT: 400,
    Outcome.TOO_LARGE: 413,
    Outcome.NOT_FOUND: 404,
    Outcome.NOT_READY: 503,
    Outcome.OVERLOADED: 503,
    Outcome.QUOTA_EXCEEDED: 429,
    Outcome.TIMED_OUT: 504,
    Outcome.CANCELLED: 499,  # nobody is there to read it; access logs name it so
    Outcome.BACKEND_FAILED: 500,
    Outcome.INTERNAL: 500,
}


def status_line(status: int) -> bytes:
    phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else "Client Closed Request"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


def error_body(error: ForwardpassError) -> bytes:
    """The error object of the Open Inference Protocol."""
    return orjson.dumps({"error": error.message})


def error_headers(error: ForwardpassError) -> list[tuple[bytes, bytes]]:
    """``Retry-After`` (whole seconds) where trying again makes sense."""
    if isinstance(error, Overloaded):
        return [(b"retry-after", str(max(1, math.ceil(error.retry_after))).encode())]
    if error.outcome is Outcome.NOT_READY:
        return [(b"retry-after", b"1")]
    return []
