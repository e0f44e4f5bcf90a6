"""An ASGI application that hands each request to the first front, and its answer back.

For what only the first front knows: health, metadata, statistics, loading and unloading, pages. Goes
over loopback, one connection for each request. An answer may take as long as it takes (a model loads),
but only while the first front answers at all. Knows no models.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

PATIENCE = 8.0  # seconds without an answer until the first front is asked whether it lives, and again
SIGN = 2.0  # seconds in which it must say so
_REFUSED = orjson.dumps({"error": "the server's first process does not answer; try again"})
_ALIVE = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"

Lines = list[tuple[bytes, bytes]]
Answer = tuple[int, Lines, bytes]


class Relay:
    """``port`` is where the first front listens on loopback for this."""

    def __init__(self, port: int, patience: float = PATIENCE, sign: float = SIGN) -> None:
        self._port = port
        self._patience = patience
        self._sign = sign

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await _body(receive)
        if body is None:  # the client left before all of it had arrived
            return
        answering = asyncio.ensure_future(self._ask(_head(scope, len(body)) + body, scope["method"] != "HEAD"))
        try:
            while not (await asyncio.wait({answering}, timeout=self._patience))[0] and await self._alive():
                pass
            status, lines, content = answering.result() if answering.done() else _refused()
        except (OSError, EOFError):
            status, lines, content = _refused()
        finally:
            answering.cancel()
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": content})

    async def _ask(self, request: bytes, with_body: bool) -> Answer:
        """The answer to a request. Raises ``OSError``, or ``EOFError`` where it is cut off."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            status, lines = _parse(await reader.readuntil(b"\r\n\r\n"))
            body = await reader.read()
        finally:
            writer.close()
        length = next((int(value) for name, value in lines if name.lower() == b"content-length"), None)
        if with_body and length is not None and length != len(body):
            raise EOFError
        return status, lines, body

    async def _alive(self) -> bool:
        try:
            async with asyncio.timeout(self._sign):
                return (await self._ask(_ALIVE, with_body=True))[0] == 200
        except (OSError, EOFError):  # also where there was no time left
            return False


def _refused() -> Answer:
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
    return 503, [*headers, (b"content-length", b"%d" % len(_REFUSED))], _REFUSED


async def _body(receive: Any) -> bytes | None:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _head(scope: Any, length: int) -> bytes:
    """The request again. Its own framing is gone: the body is whole now, and the connection is for it alone."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.1"]
    framing = (b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade")
    lines += [name + b": " + value for name, value in scope["headers"] if name not in framing]
    if not any(name == b"host" for name, _ in scope["headers"]):  # HTTP/1.0 need not say
        lines.append(b"host: %b:%d" % (scope["server"][0].encode(), scope["server"][1]))
    lines += [b"content-length: %d" % length, b"connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _parse(head: bytes) -> tuple[int, Lines]:
    """Status and headers, without those that this front adds itself."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    pairs = (line.split(b": ", 1) for line in lines)
    own = (b"connection", b"date", b"transfer-encoding", b"x-request-id")
    return int(first.split(b" ", 2)[1]), [(name, value) for name, value in pairs if name.lower() not in own]
