"""Bytes of one message, file or line to rows (V1 instances).

    json   {"instances": [...]} (any number of rows), or anything else: one bare instance
    text   the whole is the one text input of one row
    bytes  the whole is the one input of one row, such as a picture

What the bytes are is said in ``agent.yaml``, never guessed. Knows no model and no input's names.
"""

from __future__ import annotations

import base64
from typing import Any, Literal

import orjson

from forwardpass.errors import InvalidInput, TooLarge

Payload = Literal["json", "text", "bytes"]


def rows_of(payload: bytes, kind: Payload, most_bytes: int) -> list[Any]:
    """The rows that a payload holds. Raises ``InvalidInput``, ``TooLarge`` where it is over ``most_bytes``."""
    if len(payload) > most_bytes:
        raise TooLarge(f"{len(payload)} bytes are more than max_bytes: {most_bytes} allows")
    if kind == "bytes":
        return [picture(payload)]
    if kind == "text":
        return [_text(payload)]
    return _rows(_json(payload))


def picture(payload: bytes) -> dict[str, str]:
    """Bytes as V1 writes them."""
    return {"b64": base64.b64encode(payload).decode()}


def _rows(said: Any) -> list[Any]:
    if not isinstance(said, dict) or "instances" not in said:
        return [said]
    rows = said["instances"]
    if not isinstance(rows, list) or not rows:
        raise InvalidInput('"instances" must be a list with one entry per row, and at least one')
    return rows


def _json(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"not valid JSON: {error}") from None


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not valid UTF-8: {error.reason} at byte {error.start}") from None
