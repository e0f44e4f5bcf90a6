"""HTTP/1.1 connections that send prepared bytes and read whole answers: keep-alive, never pipelined.

The parser reads only what a client must: status, length or chunks, whether the connection stays.
It is for answers of a server under test, so what it does not understand is an error of that
server, not something to be lenient about.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from forwardpass.address import Address
from forwardpass.errors import InvalidInput
from forwardpass.loadtest.target import Connection, Listener, Target

CONNECT_TIMEOUT = 5.0
_NO_BODY = (204, 304)


def http_request(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one POST to ``url`` (``http://host:port/path``)."""
    address = Address.of(url)
    lines = {"host": address.authority, "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {address.target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


@dataclass(frozen=True)
class HttpTarget(Target):
    """``requests`` are whole requests as bytes (``http_request``), sent to ``url``'s host and port."""

    url: str = "http://127.0.0.1:8000"

    async def connect(self, listener: Listener) -> Connection:
        address = Address.of(self.url)
        if address.tls:
            raise InvalidInput(f"load is sent to http://host:port, not to {self.url!r}")
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(lambda: HttpConnection(listener), address.host, address.port)
        _, connection = await asyncio.wait_for(opening, CONNECT_TIMEOUT)
        return connection


class HttpConnection(Connection, asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._data = b""  # what has come of an answer whose head is not complete
        self._parts: list[bytes] = []  # the body so far
        self._missing: int | None = 0  # bytes of the body still to come; None: until it ends by itself
        self._chunked = False
        self._status = 0
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        self.busy = True
        self._transport.write(request)

    def close(self) -> None:
        self.left = True
        self._transport.abort()

    def alive(self) -> bool:
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not (self.left or self._transport.is_closing() or waiting.poll(0))

    def data_received(self, data: bytes) -> None:
        if self.left:
            return
        if not self.busy:
            self._fail("an answer that nobody asked for")
        elif self._status:
            self._more(data)
        else:
            self._begin(self._data + data if self._data else data)

    def _begin(self, data: bytes) -> None:
        """The head of an answer and, almost always, all of it."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._data = data
            return
        head, rest = data[:end], data[end + 4 :]
        status = head[9:12]
        if head[:7] != b"HTTP/1." or not status.isdigit():
            self._fail("not an HTTP answer")
            return
        if status == b"100":
            self._data = b""
            if rest:
                self._begin(rest)
            return
        self._read_head(head, int(status))
        if self._missing is not None and len(rest) == self._missing:
            self._finish(rest)
        elif rest:
            self._more(rest)

    def _read_head(self, head: bytes, status: int) -> None:
        low = head.lower()
        at = low.find(b"\r\ncontent-length:")
        self._chunked = False
        if at >= 0:
            length = low[at + 17 :].split(b"\r\n", 1)[0].strip()
            self._missing = int(length) if length.isdigit() else None
        else:
            self._missing = 0 if status in _NO_BODY else None
            self._chunked = b"\r\ntransfer-encoding: chunked" in low
        self.closing = b"\r\nconnection: close" in low or low.startswith(b"http/1.0")
        self._status, self._head, self._data = status, head, b""

    def _more(self, data: bytes) -> None:
        self._parts.append(data)
        if self._missing is None:
            if self._chunked and b"".join(self._parts[-5:]).endswith(b"0\r\n\r\n"):
                self._unchunk()
            return
        self._missing -= len(data)
        if self._missing == 0:
            self._finish(b"".join(self._parts))
        elif self._missing < 0:
            self._fail("more bytes than the answer's content-length")

    def _unchunk(self) -> None:
        """The body of a chunked answer, where the last chunk is really there."""
        data = b"".join(self._parts)
        body: list[bytes] = []
        at = 0
        while True:
            line = data.find(b"\r\n", at)
            try:
                size = int(data[at:line].split(b";", 1)[0], 16)
            except ValueError:
                self._fail("not a valid chunk")
                return
            at = line + 2
            if size == 0:
                self._finish(b"".join(body))
                return
            if at + size + 2 >= len(data):
                return  # the end of some chunk's data looked like the last one
            body.append(data[at : at + size])
            at += size + 2

    def _finish(self, body: bytes) -> None:
        status, head = self._status, self._head
        self._status = 0
        if self._parts:
            self._parts = []
        self.busy = False
        self.listener.answered(self, status, head, body)

    def _fail(self, kind: str) -> None:
        self.close()
        self._ended(kind)

    def _ended(self, kind: str) -> None:
        if self.busy:
            self.busy = False
            self.listener.broken(self, kind)
        else:
            self.listener.lost(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.left:
            return
        self.left = True
        if self.busy and self._status and self._missing is None and not self._chunked and exc is None:
            self._finish(b"".join(self._parts))
            return
        self._ended("connection reset" if exc else "connection closed")
