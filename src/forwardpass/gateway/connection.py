"""Connections to one server: HTTP/1.1 over asyncio's streams, kept alive, parsed by h11.

In go a method, a path and bytes; out comes an answer, or ``Broken`` saying how far it had come, by which others decide
whether to try again. Follows no redirects and reads no proxy settings. Knows nothing of models and sets no time limit
but that for connecting; who cancels a request closes its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from forwardpass.address import Address
from forwardpass.credentials import Token
from forwardpass.errors import words

CONNECT = 3.0  # seconds; an address behind which nobody is would else take all the time there is
CHUNK = 256 * 1024
MAX_ANSWER = 256 * 1024 * 1024  # bytes of a body
Headers = Sequence[tuple[str, str]]


class Broken(Exception):
    """No answer. ``sent``: the server may have seen the request; ``begun``: it had begun to answer.

    ``second``: a kept connection broke under the same request before, without a word.
    """

    def __init__(self, why: str, *, sent: bool, begun: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.sent = sent
        self.begun = begun
        self.second = False


@dataclass(frozen=True)
class Answer:
    """Header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Pool:
    """Connections to a base address; one request at a time on each, and those that are idle are used again."""

    def __init__(self, address: Address, token: Token | None = None, most_bytes: int = MAX_ANSWER) -> None:
        self.address = address
        self.last_contact: float | None = None  # seconds since the epoch, of the last answer
        self._token = token or Token()
        self._most_bytes = most_bytes
        self._idle: list[_Connection] = []
        self._answers = 0

    async def ask(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Raises ``Broken``.

        A server may close a kept connection just when a request goes out on it: where nothing comes back, the request
        goes out once more, on a new one.
        """
        connection = self._take()
        if connection is None:
            return await self._ask(await self._open(), method, path, headers, body)
        try:
            return await self._ask(connection, method, path, headers, body)
        except Broken as broken:
            if broken.begun:
                raise
        try:
            return await self._ask(await self._open(), method, path, headers, body)
        except Broken as broken:
            broken.second = True
            raise

    async def _ask(self, connection: _Connection, method: str, path: str, headers: Headers, body: bytes) -> Answer:
        before = self._answers
        try:
            own = [*headers, *self._token.headers.items()]
            answer = await connection.ask(method, self.address.path + path, own, body)
        except BaseException:
            connection.close()
            self._distrust(before)
            raise
        self.last_contact = time.time()
        self._answers += 1
        connection.answered = self._answers
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _distrust(self, before: int) -> None:
        """Close what is idle, but for connections that have brought an answer since there were ``before`` of them.

        Where a link was cut in silence they are all dead, and each would cost a request its whole time.
        """
        dead = [connection for connection in self._idle if connection.answered <= before]
        self._idle = [connection for connection in self._idle if connection.answered > before]
        for connection in dead:
            connection.close()

    def _take(self) -> _Connection | None:
        """The one used last: the others may go stale, and are closed then."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    async def _open(self) -> _Connection:
        address = self.address
        try:
            async with asyncio.timeout(CONNECT):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, limit=CHUNK, ssl=_tls() if address.tls else None
                )
        except TimeoutError:
            raise Broken(f"no connection within {CONNECT:g} s", sent=False) from None
        except OSError as error:
            raise Broken(f"no connection: {words(error)}", sent=False) from None
        return _Connection(reader, writer, address.authority, self._most_bytes)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, most_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._most_bytes = most_bytes
        self._http = h11.Connection(h11.CLIENT)
        self.answered = 0  # the number of its last answer among those of its pool

    @property
    def usable(self) -> bool:
        """Whether another request may go out on it."""
        idle = self._http.our_state is h11.IDLE and self._http.their_state is h11.IDLE
        return idle and not self._reader.at_eof() and not self._writer.is_closing()

    def close(self) -> None:
        self._writer.transport.abort()

    async def ask(self, method: str, target: str, headers: Headers, body: bytes) -> Answer:
        await self._send(method, target, headers, body)
        answer = await self._receive()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return answer

    async def _send(self, method: str, target: str, headers: Headers, body: bytes) -> None:
        framing = [("content-length", str(len(body)))] if body or method != "GET" else []
        lines = [("host", self._host), *headers, *framing]
        events = [h11.Request(method=method, target=target, headers=lines), h11.Data(body), h11.EndOfMessage()]
        parts = [part for event in events for part in self._http.send_with_data_passthrough(event) or ()]
        # A server may answer and close before it has read all (413): its answer is read before this says anything.
        with contextlib.suppress(OSError, RuntimeError):  # uvloop's transports raise the latter once they are closed
            self._writer.writelines(parts)
            await self._writer.drain()

    async def _receive(self) -> Answer:
        head: h11.Response | None = None
        parts: list[bytes] = []
        size = 0
        while not isinstance(event := await self._next_event(begun=head is not None), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                parts.append(event.data)
                size += len(event.data)
                if size > self._most_bytes:
                    raise Broken(f"its answer has more than {self._most_bytes} bytes", sent=True, begun=True)
        if head is None:
            raise Broken("its answer has no beginning", sent=True, begun=True)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return Answer(head.status_code, headers, b"".join(parts))

    async def _next_event(self, *, begun: bool) -> h11.Event:
        while True:
            begun = begun or bool(self._http.trailing_data[0])
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    data = await self._reader.read(CHUNK)
                    begun = begun or bool(data)
                    self._http.receive_data(data)
                    continue
            except h11.RemoteProtocolError as error:
                if not begun:
                    raise Broken("the connection was closed before an answer", sent=True) from None
                raise Broken(f"its answer is cut off, or no HTTP: {error}", sent=True, begun=True) from None
            except OSError as error:
                raise Broken(f"the connection broke: {words(error)}", sent=True, begun=begun) from None
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise Broken("the connection was closed before an answer", sent=True, begun=begun)
            if isinstance(event, h11.Response | h11.Data | h11.EndOfMessage):
                return event


@functools.cache
def _tls() -> ssl.SSLContext:
    """The system's certificates; ``SSL_CERT_FILE`` names others."""
    return ssl.create_default_context()
