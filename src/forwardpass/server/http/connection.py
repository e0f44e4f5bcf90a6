"""One HTTP connection: uvicorn's own protocol, with a fast lane for predict requests.

A predict request is handled on the parser's callbacks and answered from its batch's callback, with
no task, future or framework object of its own; everything else falls through to uvicorn's ASGI
cycle. Whichever lane, requests of one connection are answered in the order they came.

What the fast lane does besides: limits on headers and bodies, ``Expect: 100-continue``, flow
control (a client that does not read is not read from), receive, send and keep-alive timeouts (one
coarse sweep over all connections instead of a timer per request), clients that leave (their
waiting requests are cancelled) and draining.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from forwardpass.errors import ForwardpassError, InvalidInput, TooLarge
from forwardpass.server.http.exchange import Exchange, Head, Route, decompressed
from forwardpass.server.http.status import error_body, status_line
from forwardpass.server.served import clock

if TYPE_CHECKING:
    from forwardpass.server.http.door import Door

LINGER = 2.0  # seconds a refused upload is read and thrown away, so that the refusal can be read
_NOT_KEPT = frozenset((b"expect", b"transfer-encoding", b"upgrade", b"x-request-id", b"traceparent"))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(HttpToolsProtocol):
    """Parses one connection's requests; fast lane where ``door.routes`` knows the URL."""

    def __init__(self, door: Door, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.door = door
        self.exchanges: deque[Exchange] = deque()  # fast lane, not yet written, in order
        self.incoming: Exchange | None = None  # fast lane, body still arriving
        self.receiving = False  # a message has begun and is not complete
        self.since = door.now  # when it began, or when the connection fell idle
        self.unread_since: float | None = None  # the client does not read
        self.discarding = False  # refused: what still arrives is thrown away
        self.closing = False  # no more requests after those under way
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
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nothing here upgrades; the request itself is answered as it stands
        except httptools.HttpParserError as error:
            if not self.discarding:
                self._refuse(400, f"not a valid HTTP request: {error}")
        if self.receiving and not self._body_begun:
            self._head_bytes += len(data)
            self._check_head(self._head_bytes)

    def _known(self, data: bytes) -> bytes:
        """Take requests that are here whole and whose heads were parsed before; return the rest.

        Clients send the same head again and again. The same bytes mean the same, so the parser
        need not see them twice; it stands between two messages as before.
        """
        heads = self.door.heads
        if self._slow():
            return data
        while data:
            end = data.find(b"\r\n\r\n") + 4
            head = heads.get(data[:end])
            if head is None or head.length is None or end + head.length > len(data):
                break
            stop = end + head.length
            self._start(Exchange(self, head, data[end:stop]))
            data = data[stop:]
        return data

    def _slow(self) -> bool:
        """Whether an ASGI answer is under way, behind which requests must queue."""
        return self.cycle is not None and not self.cycle.response_complete

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: what waits is cancelled, what runs is still answered."""
        self.closing = True
        for exchange in tuple(self.exchanges):  # a cancelled one leaves the queue
            if exchange.waiting:
                self.door.cancel(exchange)
        return bool(self.exchanges) and not self.discarding

    def connection_lost(self, exc: Exception | None) -> None:
        self.discarding = True
        exchanges, self.exchanges = self.exchanges, deque()
        for exchange in exchanges:
            self.door.cancel(exchange)
        if isinstance(self.cycle, Exchange):
            self.cycle = None
        super().connection_lost(exc)

    # Parser callbacks

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.receiving = True
        self.since = self.door.now
        self._head_bytes = self._body_bytes = 0
        self._body_begun = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._body_begun = True
        self._check_head(len(self.url) + sum(len(name) + len(value) for name, value in self.headers))
        if self.discarding:
            return
        route = self.door.routes.get(self.url) or self.door.find_route(self.url)
        if route is not None and self.parser.get_method() == b"POST":
            self._begin_exchange(route)
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
        if self.discarding:
            return
        exchange, self.incoming = self.incoming, None
        if exchange is None:
            super().on_message_complete()
        elif self._slow():
            self.flow.pause_reading()  # an ASGI answer is under way before it
            self.pipeline.appendleft((exchange, None))  # type: ignore[arg-type]
        else:
            self._start(exchange)

    # The fast lane

    def _begin_exchange(self, route: Route) -> None:
        head = self._head(route)
        self.incoming = Exchange(self, head)
        if head.length is not None and head.length > self.door.settings.max_body_bytes:
            self._refuse_body()
        elif head.headers.get(b"expect", b"").lower() == b"100-continue" and not self.exchanges:
            self.transport.write(_CONTINUE)

    def _head(self, route: Route) -> Head:
        """The head just parsed; kept for the next time where it can stand for itself."""
        headers = {name.lower(): value for name, value in self.headers}
        keep_alive = self.parser.should_keep_alive()
        length = headers.get(b"content-length")
        number = int(length) if length is not None and length.isdigit() else None
        echo = headers.get(b"x-request-id")
        split = headers.get(b"inference-header-content-length")
        head = Head(
            route,
            headers,
            keep_alive,
            number,
            int(split) if split is not None and split.isdigit() else None,
            headers.get(b"content-encoding", b"").lower(),
            b"" if echo is None else b"x-request-id: %b\r\n" % echo,
        )
        raw, self._unknown_head = self._unknown_head, b""
        if number is not None and keep_alive and raw.startswith(b"POST ") and headers.keys().isdisjoint(_NOT_KEPT):
            self.door.learn(raw, head)
        return head

    def _start(self, exchange: Exchange) -> None:
        """Decode and queue a request that has arrived whole; an error is answered in its turn."""
        self.exchanges.append(exchange)
        exchange.arrived = clock()
        exchange.bytes_in = len(exchange.body)
        served = exchange.head.route.served
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
            exchange.fail(error)

    def reply(self, exchange: Exchange, line: bytes, headers: bytes, body: bytes) -> None:
        """Write an answer, or keep it until those before it are written."""
        if self.discarding:
            return
        echo = exchange.head.echo
        if not exchange.head.keep_alive or self.closing or self.door.draining:
            exchange.last = True
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
        while exchanges and exchanges[0].answer is not None:
            later = exchanges.popleft()
            self._write(later, later.answer or b"")
        if self.pipeline and not exchanges:
            self._advance()

    def _write(self, exchange: Exchange, answer: bytes) -> None:
        self.transport.write(answer)
        exchange.response_complete = True
        self.since = self.door.now
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
        if self.exchanges:
            self.cycle = self.exchanges[-1]  # type: ignore[assignment]  # not complete: uvicorn queues the new one
        try:
            super().on_headers_complete()
        except httptools.HttpParserInvalidURLError:
            self._refuse(400, "the request's URL is not valid")

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self._start(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _advance(self) -> None:
        """All exchanges are written: start what was queued behind them."""
        if self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the sweep closes idle connections
        self.since = self.door.now
        if (self.closing or self.door.draining) and not self.pipeline and not self.exchanges:
            self.transport.close()

    # Limits

    def _check_head(self, size: int) -> None:
        if size > self.door.settings.max_header_bytes and not self.discarding:
            self._refuse(431, f"the headers are longer than {self.door.settings.max_header_bytes} bytes")

    def _too_long(self, headers: dict[bytes, bytes]) -> bool:
        length = headers.get(b"content-length", b"0")
        return length.isdigit() and int(length) > self.door.settings.max_body_bytes

    def _refuse_body(self) -> None:
        most = self.door.settings.max_body_bytes
        error = TooLarge(f"the body is over {most} bytes, the most this server takes (`--max-body-bytes`)")
        if self.incoming is not None:
            self.incoming.arrived = clock()
            self.door.dataplane.refused(self.incoming.head.route.served, self.incoming, error)
        self._refuse(413, error.message)

    def _refuse(self, status: int, message: str) -> None:
        """Answer once and close: the rest of what arrives cannot be understood, or is not wanted."""
        self.discarding = True
        self.receiving = False
        self.since = self.door.now
        busy = self.exchanges or (self.cycle is not None and not self.cycle.response_complete)
        if not busy:  # else an answer here would be taken for that of an earlier request
            body = error_body(InvalidInput(message))
            head = b"%b%bcontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % (status_line(status), self.door.date_header, len(body)) + body)
            self.transport.write_eof()
        for exchange in tuple(self.exchanges):
            self.door.cancel(exchange)
        if busy:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread_since = self.door.now
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread_since = None
        if not self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()

    def sweep(self, now: float) -> None:
        """Close what takes too long: called for every connection, about once a second."""
        settings = self.door.settings
        waited = now - self.since
        if self.discarding:
            if waited > LINGER:
                self.transport.abort()
        elif self.unread_since is not None and now - self.unread_since > settings.send_timeout:
            self.transport.abort()
        elif self.receiving:
            if waited > settings.receive_timeout:
                self._refuse(408, f"the request did not arrive within {settings.receive_timeout:g} s")
        elif self.idle and waited > (settings.keep_alive if not self.door.draining else 0.0):
            self.transport.close()

    @property
    def idle(self) -> bool:
        """Nothing arrives, runs or waits to be written."""
        cycle: RequestResponseCycle | None = self.cycle
        return not (self.receiving or self.exchanges or self.pipeline or (cycle and not cycle.response_complete))

    def shutdown(self) -> None:
        """The server stops: close after what is under way; the sweep closes what is idle."""
        self.closing = True
        cycle: Any = self.cycle
        if isinstance(cycle, RequestResponseCycle) and not cycle.response_complete:
            cycle.keep_alive = False
