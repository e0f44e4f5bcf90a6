"""JSON bodies of the endpoints outside the fast lane, in and out."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from forwardpass.errors import InvalidInput


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, "application/json")


async def json_body(request: Request) -> dict[str, Any]:
    """The object in a body, empty where there is none. Raises ``InvalidInput``."""
    body = await request.body()
    if not body:
        return {}
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidInput("expected a JSON object")
    return content
