"""One real request to a peer, its answer compared with ONNX Runtime's before anything is timed.

Adds to ``bench.answers`` what peers answer beside V1 and V2: a bare JSON array of rows, and floats as bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from bench import answers
from bench.load import Request


def check(port: int, request: Request, expected: Sequence[float]) -> None:
    """Raises ``WrongAnswer``."""
    body, header_length = answers.ask(port, request)
    answers.compare(values(body, header_length, len(expected)), expected)


def values(body: bytes, header_length: int | None, count: int) -> list[float]:
    """The numbers in an answer. Bytes that are not JSON end in ``count`` float32, after whatever wraps them."""
    if header_length is not None:
        return answers.values(body, header_length)
    try:
        answer = json.loads(body)
    except ValueError:  # also bytes that are no text
        if len(body) < 4 * count:
            raise answers.WrongAnswer(f"neither JSON nor {count} floats: {body[:200]!r}") from None
        return list(struct.unpack(f"<{count}f", body[-4 * count :]))
    return answers.values(json.dumps({"predictions": answer}).encode() if isinstance(answer, list) else body)
