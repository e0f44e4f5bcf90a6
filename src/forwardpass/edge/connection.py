"""One HTTP connection of an agent: HTTP/1.1 by h11 over asyncio's streams, one request at a time.

Bounded in bytes and seconds: what is malformed, too large or too slow gets a last answer and is closed;
where the client leaves, nobody waits for its prediction any more. Knows no models.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import h11
import orjson

from forwardpass.edge.endpoints import Answer, failed
from forwardpass.edge.exchange import EdgeExchange, head_for
from forwardpass.edge.reader import Reader
from forwardpass.errors import BackendFailed, ForwardpassError, TooLarge
from forwardpass.server.http.exchange import create_head, decompressed
from forwardpass.server.served import ServedModel, clock
from forwardpass.types import Outcome

if TYPE_CHECKING:
    from forwardpass.edge.door import Crowd, Door

log = logging.getLogger(__name__)

CHUNK = 256 * 1024  # bytes read at a time
MOST_HEAD = 32 * 1024  # bytes of a request's line and headers
MOMENT = 0.05  # seconds in which there may be room for a connection that is one too many
PARTING = 0.5  # seconds an idle connection stays when the agent stops: one in use is told with its next answer
LINGER = 2.0  # seconds a refused upload is read and thrown away, so that the refusal can be read
PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus} | {499: b"Client Closed Request"}


class Refused(Exception):
    """The last answer of a connection."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Connection:
    """One connection of a crowd: requests in, answers out, one after the other."""

    def __init__(self, door: Door, reader: Reader, writer: asyncio.StreamWriter, crowd: Crowd) -> None:
        self._door = door
        self._reader = reader
        self._writer = writer
        self._crowd = crowd
        self._excess = crowd.number >= crowd.most
        crowd.number += 1
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self._idle: asyncio.Timeout | None = None  # while nothing of a request is here
        writer.transport.set_write_buffer_limits(0)  # drained is what the system has, all of it
        self.task = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        """Until either side closes. Raises nothing that the other side can cause."""
        try:
            await self._enter()
            while await self._serve_one():
                self._protocol.start_next_cycle()
        except Refused as refused:
            await self._refuse(refused.status, refused.message)
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, f"not a valid HTTP request: {error}")
        except (OSError, TimeoutError, EOFError):
            pass  # it left, or does not read
        finally:
            self._writer.transport.abort()

    async def _enter(self) -> None:
        """Raises ``Refused`` where it is one too many."""
        if self._excess:
            await asyncio.sleep(MOMENT)  # one that its client has left may still be counted
            if self._crowd.number > self._crowd.most:
                raise Refused(503, f"more than {self._crowd.most} connections; try again later")

    def leave(self) -> None:
        """The agent stops: what has begun to arrive is answered, and what still comes in a moment."""
        end = self._end(PARTING)
        if self._idle is not None and not self._idle.expired() and end < (self._idle.when() or end):
            self._idle.reschedule(end)

    async def _serve_one(self) -> bool:
        """Answer one request; whether another may follow. Raises ``EOFError`` where there is none."""
        request = await self._head()
        body = await self._body(request)
        answer = await self._answer(request, body)
        await self._send(request, answer)
        return self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE

    # Reading

    async def _head(self) -> h11.Request:
        if self._protocol.trailing_data[0]:
            await asyncio.sleep(0)  # who sends requests in one go shares the loop with all others
        else:
            self._protocol.receive_data(await self._first())
        try:
            event = await self._event(self._end(self._door.settings.receive_timeout))
        except TimeoutError:
            raise Refused(408, "the request did not arrive in time") from None
        if not isinstance(event, h11.Request):
            raise EOFError
        return event

    async def _first(self) -> bytes:
        """The first bytes of a request. Raises ``TimeoutError`` where none come, and the client has been told."""
        seconds = PARTING if self._door.draining else self._door.settings.keep_alive
        try:
            async with asyncio.timeout(seconds) as self._idle:
                return await self._reader.read(CHUNK)
        except TimeoutError:
            if self._reader.part(self._writer.transport.get_extra_info("socket")):
                raise
        finally:
            self._idle = None
        return await self._reader.read(CHUNK)

    async def _body(self, request: h11.Request) -> bytes:
        most, seconds = self._door.settings.max_body_bytes, self._door.settings.receive_timeout
        if _length(request) > most:
            raise self._too_large(request)
        if self._protocol.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        body, end = bytearray(), self._end(seconds)
        try:
            while isinstance(event := await self._event(end), h11.Data):
                body += event.data
                if len(body) > most:
                    raise self._too_large(request)
        except TimeoutError:
            raise Refused(408, f"the request did not arrive within {seconds:g} s") from None
        return bytes(body)

    def _too_large(self, request: h11.Request) -> Refused:
        most = self._door.settings.max_body_bytes
        route = self._door.route(_path(request))
        error = TooLarge(f"the body is over {most} bytes, the most this agent takes (`max_body_bytes`)")
        if route is not None:
            exchange = EdgeExchange(create_head(route, [], True), b"")
            exchange.arrived = clock()
            self._door.dataplane.refused(route.served, exchange, error)
        return Refused(413, error.message)

    def _end(self, seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds

    async def _event(self, end: float) -> Any:
        """The next thing the client said, before ``end`` by the loop's clock, else ``TimeoutError``.

        Raises ``EOFError`` where it left in the middle of a request.
        """
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout_at(end):
                data = await self._reader.read(CHUNK)
            if not data and self._protocol.their_state is not h11.IDLE:
                raise EOFError
            self._protocol.receive_data(data)
        return event

    # Answering

    async def _answer(self, request: h11.Request, body: bytes) -> Answer:
        path = _path(request)
        route = self._door.route(path)
        if route is None or request.method != b"POST":
            answer = await self._door.endpoints.answer(request.method.decode("latin-1"), path, body)
            echo = [header for header in request.headers if header[0] == b"x-request-id"][-1:]
            return Answer(answer.status, [*answer.headers, *echo], answer.body)
        head = create_head(route, list(request.headers), True)

        async def attempt(served: ServedModel) -> tuple[Outcome, tuple[EdgeExchange, Answer]]:
            exchange = EdgeExchange(head if served is route.served else head_for(served, route, head), body)
            answer = await self._predict(exchange)
            return exchange.outcome or Outcome.INTERNAL, (exchange, answer)

        served, (exchange, answer) = await self._door.watcher.ask(route.served, attempt)
        self._door.watcher.answered(exchange, served, exchange.outputs, exchange.error)
        return answer

    async def _predict(self, exchange: EdgeExchange) -> Answer:
        """The answer of its route's version, whatever happens."""
        served = exchange.head.route.served
        exchange.arrived = clock()
        exchange.bytes_in = len(exchange.body)
        try:
            self._decode(exchange)
        except ForwardpassError as error:
            self._door.dataplane.refused(served, exchange, error)
            return failed(error, exchange.head.echo)
        try:
            self._door.dataplane.infer(served, exchange)
        except ForwardpassError as error:
            exchange.error = error.message
            return failed(error, exchange.head.echo)
        return await self._awaited(exchange, served)

    def _decode(self, exchange: EdgeExchange) -> None:
        """Raises ``ForwardpassError`` whatever the body holds."""
        head = exchange.head
        exchange.background = head.background
        try:
            if head.coding:
                exchange.body = decompressed(bytes(exchange.body), head.coding, self._door.settings.max_body_bytes)
            head.route.decode(exchange)
        except ForwardpassError:
            raise
        except Exception:  # the door: whatever a body holds, it is answered
            log.exception("a request could not be decoded")
            raise BackendFailed("the request could not be read; the agent's log says why") from None

    async def _awaited(self, exchange: EdgeExchange, served: ServedModel) -> Answer:
        """The answer, once there; where the client leaves before, nobody waits for it any more."""

        def give_up() -> None:
            if not exchange.done and served.scheduler is not None:
                served.scheduler.cancel(exchange)

        def ended(gone: bool) -> None:
            if gone or exchange.waiting:  # it sends no more, and its turn has not come
                give_up()

        self._reader.tell(ended)
        try:
            return await exchange.awaited
        finally:
            self._reader.tell(None)
            give_up()

    # Writing

    async def _send(self, request: h11.Request, answer: Answer) -> None:
        body = answer.body
        headers = [
            (b"date", _date(int(time.time()))),
            *answer.headers,
            (b"content-length", b"%d" % len(body)),
        ]
        if self._door.draining:
            headers.append((b"connection", b"close"))
        head = h11.Response(status_code=answer.status, headers=headers, reason=PHRASES[answer.status])
        sent = [h11.Data(data=body)] if request.method != b"HEAD" and body else []
        self._write(head, *sent, h11.EndOfMessage())
        await self._drain()
        if self._protocol.our_state is h11.MUST_CLOSE:
            await self._linger()

    def _write(self, *events: h11.Event) -> None:
        """All at once: a system call each would be a good part of what an answer costs."""
        self._writer.write(b"".join(self._protocol.send(event) or b"" for event in events))

    async def _drain(self) -> None:
        if self._writer.transport.get_write_buffer_size():
            async with asyncio.timeout(self._door.settings.send_timeout):
                await self._writer.drain()

    async def _refuse(self, status: int, message: str) -> None:
        """The last answer: what still arrives cannot be understood, or is not wanted."""
        if self._protocol.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = orjson.dumps({"error": message})
        headers = [("content-type", "application/json"), ("connection", "close"), ("content-length", str(len(body)))]
        if status == 503:
            headers.append(("retry-after", "1"))
        with suppress(OSError, TimeoutError):
            response = h11.Response(status_code=status, headers=headers, reason=PHRASES[status])
            self._write(response, h11.Data(data=body), h11.EndOfMessage())
            await self._drain()
            await self._linger()

    async def _linger(self) -> None:
        """Write no more; what still arrives is read for a while, so that the answer arrives as well."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while await self._reader.read(CHUNK):
                    pass


def _path(request: h11.Request) -> str:
    target = request.target
    if target.startswith((b"http://", b"https://")):
        target = b"/" + target.split(b"/", 3)[-1] if target.count(b"/") > 2 else b"/"
    return unquote(target.partition(b"?")[0].decode("latin-1"), errors="replace")


def _length(request: h11.Request) -> int:
    """What the headers give; h11 has checked it."""
    return next((int(value) for name, value in request.headers if name == b"content-length"), 0)


@functools.lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
