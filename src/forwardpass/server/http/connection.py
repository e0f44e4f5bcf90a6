"""One HTTP connection: uvicorn's own protocol, with a fast lane for predict requests.

A predict request is handled on the parser's callbacks and answered from its batch's callback, with
no task, future or framework object of its own; everything else falls through to uvicorn's ASGI
cycle. Whichever lane, requests of one connection are answered in the order they came.

What is refused, and every timeout, is in ``guard``. Here besides: ``Expect: 100-continue``,
declined upgrades, clients that leave (their waiting requests are cancelled) and draining.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from forwardpass.errors import ForwardpassError
from forwardpass.server.http.exchange import Exchange, Head, Route, create_head, decompressed
from forwardpass.server.http.guard import MAX_HEADERS, GuardedConnection, Refusal
from forwardpass.server.served import clock
from forwardpass.types import Outcome

if TYPE_CHECKING:
    from forwardpass.server.http.door import Door

MAX_PIPELINED = 1024  # requests of one connection under way at a time; more wait unread
_OK = Outcome.OK
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(GuardedConnection):
    """Parses one connection's requests; fast lane where ``door.routes`` knows the URL."""

    def __init__(self, door: Door, **uvicorn: Any) -> None:
        super().__init__(door, **uvicorn)
        self._advancing = False
        self._unknown_head = b""  # the bytes of the head that the parser sees, where it began a chunk
        self._head_bytes = 0  # of chunks that brought no complete head yet
        self._body_begun = False
        self._body_bytes = 0

    # Bytes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.door.settings.max_connections:
            self._refuse(503, f"more than {self.door.settings.max_connections} connections; try again later")

    def data_received(self, data: bytes) -> None:
        if self.discarding:
            return
        self._unset_keepalive_if_required()
        if not self.receiving:
            data = self._known(data)
            if not data:
                return
            self._unknown_head = data[: data.find(b"\r\n\r\n") + 4]
        while data:
            data = self._feed(data)
        if self.receiving and not self._body_begun:
            self._check_head(self._head_bytes)

    def _feed(self, data: bytes) -> bytes:
        """Let the parser read; returns what it must read once more."""
        self._head_bytes += len(data)  # counted from 0 again after each message
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self.discarding:
                self._refuse(400, f"not a valid HTTP request: {error}")
        return b""

    def _known(self, data: bytes) -> bytes:
        """Take requests that are here whole and whose heads were parsed before; return the rest.

        Clients send the same head again and again. The same bytes mean the same, so the parser
        need not see them twice; it stands between two messages as before.
        """
        if self._slow() or len(self.exchanges) >= MAX_PIPELINED:
            return data
        heads = self.door.heads
        while data and not self.discarding:
            end = data.find(b"\r\n\r\n") + 4
            head = heads.get(data[:end])
            if head is None or head.length is None or end + head.length > len(data):
                break
            stop = end + head.length
            self._start(Exchange(self, head, data[end:stop]))
            data = data[stop:]
        return data

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Nothing here upgrades: the request again, as one that does not ask for it, and the rest.

        The parser ended it after its head, and would take its body for the next request.
        """
        if self.discarding:
            return b""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT is not allowed: this server is no proxy")
            return b""
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        for name, value in self.headers:
            if name.lower() == b"connection":
                value = b"close" if b"close" in value.lower() else b"keep-alive"
            if name.lower() != b"upgrade":
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join((*lines, b"", rest))

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: what waits is cancelled, what runs is still answered."""
        self.closing = self.half_closed = True
        self._forget_incoming()
        self.loop.call_soon(self._cancel_waiting)  # what came with the end may still find a replica idle
        return not self.idle

    def _cancel_waiting(self) -> None:
        for exchange in tuple(self.exchanges):  # a cancelled one leaves the queue
            if exchange.waiting:
                self.door.cancel(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self.discarding = self.lost = True
        exchanges, self.exchanges = self.exchanges, deque()
        for exchange in exchanges:
            self.door.cancel(exchange)
        if isinstance(self.cycle, Exchange):
            self.cycle = None
        if self.running is not None:
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)

    # Parser callbacks

    def on_message_begin(self) -> None:
        if self.discarding:
            return
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.receiving = True
        self.since = self.door.now
        self._body_bytes = 0
        self._body_begun = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._body_begun or self.discarding:  # a trailer, or too many
            return
        self.headers.append((name, value))
        if len(self.headers) > MAX_HEADERS:
            self._refuse(431, f"there are more than {MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        self._body_begun = True
        self._check_head(len(self.url) + sum(len(name) + len(value) for name, value in self.headers))
        self._check_framing(self.headers)
        raw, self._unknown_head = self._unknown_head, b""
        if self.discarding or self.parser.should_upgrade():
            return
        route = self.door.routes.get(self.url) or self.door.find_route(self.url)
        if route is not None and self.parser.get_method() == b"POST":
            self._begin_exchange(route, raw)
        else:
            self._begin_cycle()

    def on_body(self, body: bytes) -> None:
        if self.discarding:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self.door.settings.max_body_bytes:
            self._refuse_body()
            return
        exchange = self.incoming
        if exchange is None:
            super().on_body(body)
        elif not exchange.body:
            exchange.body = body
        else:
            if type(exchange.body) is bytes:
                exchange.body = bytearray(exchange.body)
            exchange.body += body

    def on_message_complete(self) -> None:
        self.receiving = False
        self._head_bytes = 0
        if self.discarding or self.parser.should_upgrade():
            return
        self.uploading = None
        exchange, self.incoming = self.incoming, None
        self.discarding = not (self.cycle if exchange is None else exchange.head).keep_alive  # it is the last one
        if exchange is None:
            super().on_message_complete()
        elif self._slow() or len(self.exchanges) >= MAX_PIPELINED:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, None))  # type: ignore[arg-type]
        else:
            self._start(exchange)

    # The fast lane

    def _begin_exchange(self, route: Route, raw: bytes) -> None:
        head = self._head(route, raw)
        self.incoming = Exchange(self, head)
        if head.length is not None and head.length > self.door.settings.max_body_bytes:
            self._refuse_body()
        elif head.headers.get(b"expect", b"").lower() == b"100-continue" and not (self.exchanges or self._slow()):
            self.transport.write(_CONTINUE)

    def _head(self, route: Route, raw: bytes) -> Head:
        """The head just parsed; kept for the next time where it can stand for itself.

        ``raw`` holds its bytes where it was the first in what arrived, else nothing.
        """
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        head = create_head(route, self.headers, keep_alive)
        within = head.length is not None and head.length <= self.door.settings.max_body_bytes
        if raw.startswith(b"POST ") and within and head.constant:
            self.door.learn(raw, head)
        return head

    def _start(self, exchange: Exchange) -> None:
        """Decode and queue a request that has arrived whole; an error is answered in its turn."""
        self.exchanges.append(exchange)
        exchange.arrived = clock()
        exchange.bytes_in = len(exchange.body)
        served = exchange.head.route.served
        if exchange.head.background:
            exchange.background = True
        try:
            if exchange.head.coding:
                body = decompressed(bytes(exchange.body), exchange.head.coding, self.door.settings.max_body_bytes)
                exchange.body = body
            exchange.head.route.decode(exchange)
        except ForwardpassError as error:
            self.door.dataplane.refused(served, exchange, error)
            exchange.fail(error)
            return
        except Exception as error:  # noqa: BLE001  the door: whatever a body holds, it is answered
            self.door.internal_error(exchange, error)
            return
        exchange.body = b""
        try:
            self.door.dataplane.infer(served, exchange)
        except ForwardpassError as error:
            exchange.columns = {}  # its answer may have to wait for its turn
            exchange.fail(error)

    def reply(self, exchange: Exchange, line: bytes, headers: bytes, body: bytes) -> None:
        """Write an answer, or keep it until those before it are written."""
        if self.lost:
            return
        echo = exchange.head.echo
        if not exchange.head.keep_alive or ((self.closing or self.door.draining) and self._is_last(exchange)):
            exchange.last = self.discarding = True
            echo += b"connection: close\r\n"
        parts = (line, self.door.date_header, headers, echo, len(body), body)
        answer = b"%b%b%b%bcontent-length: %d\r\n\r\n%b" % parts
        exchanges = self.exchanges
        if exchanges and exchanges[0] is not exchange:
            exchange.answer = answer
            return
        exchanges.popleft()
        self._write(exchange, answer)
        if not exchanges and not self.pipeline:
            return
        if exchanges and exchanges[0].answer is not None:
            self._write_kept()
        if self.pipeline and not exchanges:
            self._advance()

    def _write_kept(self) -> None:
        """Answers that had to wait; no batch ends behind which they would go out by themselves."""
        exchanges = self.exchanges
        while exchanges and exchanges[0].answer is not None:
            later = exchanges.popleft()
            self._write(later, later.answer or b"")
        self.door.flush()

    def _is_last(self, exchange: Exchange) -> bool:
        return self.exchanges[-1] is exchange and not (self.pipeline or self.receiving)

    def _write(self, exchange: Exchange, answer: bytes) -> None:
        exchange.response_complete = True
        self.since = self.door.now
        if exchange.outcome is _OK and not exchange.last:
            self.door.write_later(self.transport, answer)
            return
        self.door.flush()  # what was answered before it goes before it
        if not self.transport.is_closing():
            self.transport.write(answer)
        if exchange.last:
            self.transport.close()

    # The ASGI lane

    def _begin_cycle(self) -> None:
        """Hand the request to uvicorn's ASGI cycle, behind the exchanges before it."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        if self._too_long(dict(self.headers)):
            self._refuse_body()
            return
        before = self.cycle
        if self.exchanges:
            self.cycle = self.exchanges[-1]  # type: ignore[assignment]  # not complete: uvicorn queues the new one
        try:
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, AttributeError, UnicodeDecodeError):  # no path, or not ASCII
            self.cycle = before
            self._refuse(400, "the request's URL is not valid; send a path, with what is not ASCII as %-escapes")
        else:
            self.uploading = self.cycle
            echo = [header for header in self.headers if header[0] == b"x-request-id"][-1:]
            self.cycle.default_headers = [*self.cycle.default_headers, *echo]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self._start(cycle)
        elif isinstance(cycle, Refusal):
            self._say(cycle)
        else:
            self.running = cycle
            super()._start_asgi_task(cycle, app)

    def _advance(self) -> None:
        """All exchanges are written: start what was queued behind them."""
        if self._advancing:  # one that was answered at once; the loop below goes on
            return
        self._advancing = True
        cycle: Any = None
        while self.pipeline and not self.exchanges and not isinstance(cycle, RequestResponseCycle):
            if self.transport.is_closing():
                break
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        self._advancing = False
        self._resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the sweep closes idle connections
        self.since = self.door.now
        if (self.closing or self.door.draining) and self.idle and not self.lingering:
            self.transport.close()
        else:
            self._resume_reading()
