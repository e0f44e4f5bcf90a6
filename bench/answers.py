"""One real request to each server before it is timed, its answer compared with ONNX Runtime's.

A fast wrong answer is worth nothing. Understands the four kinds of answer that the measured
servers give; plain Python, so that the measuring process maps no numeric library.
"""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from bench.load import Request

TOLERANCE = 0.01  # of the largest value: kernels may differ in the last digits, a wrong picture may not


class WrongAnswer(Exception):
    """A server answers, but not with what ONNX Runtime gives for the same request."""


def ask(port: int, request: Request) -> tuple[bytes, int | None]:
    """Body of the answer to the first of the request's bodies, and its V2 header length if it is binary."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", request.path, request.bodies[0].read_bytes(), request.headers())
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as reason:
        raise WrongAnswer(f"no answer: {reason!r}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise WrongAnswer(f"status {response.status}: {body[:200].decode(errors='replace')}")
    length = response.getheader("Inference-Header-Content-Length")
    return body, None if length is None else int(length)


def check(port: int, request: Request, expected: Sequence[float]) -> int:
    """Bytes of the answer. Raises ``WrongAnswer``."""
    body, header_length = ask(port, request)
    compare(values(body, header_length), expected)
    return len(body)


def values(body: bytes, header_length: int | None = None) -> list[float]:
    """The numbers of the one output in an answer: V2 binary, V2 JSON, or ``predictions`` of one row."""
    if header_length is not None:
        return list(struct.unpack(f"<{(len(body) - header_length) // 4}f", body[header_length:]))
    answer: Any = json.loads(body)
    try:
        if "outputs" in answer:
            return list(_flat(answer["outputs"][0]["data"]))
        row = answer["predictions"][0]
        return list(_flat(next(iter(row.values())) if isinstance(row, Mapping) else row))
    except (KeyError, IndexError, TypeError):
        raise WrongAnswer(f"not a V1 or V2 answer: {body[:200]!r}") from None


def compare(got: Sequence[float], expected: Sequence[float]) -> None:
    """Raises ``WrongAnswer`` where the two differ by more than the tolerance."""
    if len(got) != len(expected):
        raise WrongAnswer(f"{len(got)} values, expected {len(expected)}")
    limit = TOLERANCE * max(abs(value) for value in expected)
    worst = max(abs(a - b) for a, b in zip(got, expected, strict=True))
    if not worst <= limit:  # also where one of them is NaN
        raise WrongAnswer(f"differs from ONNX Runtime by {worst:.4g}, allowed is {limit:.4g}")


def _flat(data: Any) -> list[float]:
    if not isinstance(data, list):
        return [float(data)]
    return [value for item in data for value in _flat(item)]
