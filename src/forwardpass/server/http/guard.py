"""What one HTTP connection refuses, and how long it waits: its limits, its timeouts, its end.

A refusal is the last answer of a connection and takes its turn behind the requests before it. No
timer is set per request: ``sweep`` looks at every connection about once a second. Knows nothing of
how requests are read and answered; ``connection`` builds on it.
"""

from __future__ import annotations

import os
import re
import select
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from forwardpass.errors import InvalidInput, TooLarge
from forwardpass.server.http.exchange import Exchange
from forwardpass.server.http.status import error_body, status_line
from forwardpass.server.served import clock

if TYPE_CHECKING:
    from forwardpass.server.http.door import Door

MAX_HEADERS = 256  # header lines of a request, however short
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]*)(:[0-9]*)?")
PARTING = 0.5  # seconds an idle connection stays when draining: one in use is told with its next answer
LINGER = 2.0  # seconds a refused upload is read and thrown away, so that the refusal can be read


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last answer of a connection, where it must wait its turn in ``pipeline``."""

    status: int
    message: str


def framing_fault(version: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """What makes a head mean different things to different readers, beyond what the parser refuses; or nothing.

    A proxy in front may have read it in the other way, and taken what follows for another request.
    """
    if version not in ("1.1", "1.0"):
        return f"HTTP/{version} is not spoken here; send HTTP/1.1"
    hosts: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower == b"host":
            hosts.append(value)
        elif lower == b"transfer-encoding" and value.strip().lower() != b"chunked":
            return f"Transfer-Encoding {value.decode('latin-1')!r} is not taken; send `chunked`, or a length"
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return f"{len(hosts)} Host headers instead of one"
    if hosts and not HOST.fullmatch(hosts[0]):
        return f"Host {hosts[0].decode('latin-1')!r} is no host"
    return ""


class GuardedConnection(HttpToolsProtocol):
    """The state of a connection, and what ends it."""

    def __init__(self, door: Door, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.door = door
        self.exchanges: deque[Exchange] = deque()  # fast lane, not yet written, in order
        self.incoming: Exchange | None = None  # fast lane, body still arriving
        self.receiving = False  # a message has begun and is not complete
        self.since = door.now  # when it began, or when the connection fell idle
        self.unread_since: float | None = None  # the client does not read
        self.discarding = False  # no more requests are taken: what still arrives is thrown away
        self.closing = False  # to be closed after the requests under way
        self.lingering = False  # refused, and said so
        self.lost = False
        self.half_closed = False  # the client sends no more
        self.running: RequestResponseCycle | None = None  # ASGI lane, being answered; `cycle` is the newest
        self.uploading: RequestResponseCycle | None = None  # ASGI lane, body still arriving

    def _slow(self) -> bool:
        """Whether something else is under way, behind which requests must queue."""
        return bool(self.pipeline) or self._answering()

    def _answering(self) -> bool:
        """Whether the ASGI lane has an answer to finish: its newest, or one before a newest that was refused."""
        newest, running = self.cycle, self.running
        return (newest is not None and not newest.response_complete) or (
            running is not None and not running.response_complete
        )

    def _resume_reading(self) -> None:
        """Unless requests wait for their turn, or the client does not read its answers."""
        if self.pipeline or self.unread_since is not None:
            self.flow.pause_reading()
        elif not self.transport.is_closing():
            self.flow.resume_reading()

    def _check_head(self, size: int) -> None:
        if size > self.door.settings.max_header_bytes and not self.discarding:
            self._refuse(431, f"the headers are longer than {self.door.settings.max_header_bytes} bytes")

    def _check_framing(self, headers: list[tuple[bytes, bytes]]) -> None:
        fault = framing_fault(self.parser.get_http_version(), headers)
        if fault and not self.discarding:
            self._refuse(400, f"not a valid HTTP request: {fault}")

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
        """Give the last answer, in its turn: what still arrives cannot be understood, or is not wanted."""
        self.discarding = True
        answered = self._forget_incoming()
        refusal: Any = Refusal(status, message)
        if answered:
            self.closing = True
            if self.idle:
                self._linger()
        elif self.exchanges or self._slow():
            self.pipeline.appendleft((refusal, None))  # type: ignore[arg-type]
        else:
            self._say(refusal)

    def _forget_incoming(self) -> bool:
        """The request that is arriving will not be complete. Returns whether it has its answer already."""
        self.receiving = False
        self.incoming = None
        cycle, self.uploading = self.uploading, None
        if cycle is None or cycle.response_started:
            return cycle is not None
        self.pipeline = deque(item for item in self.pipeline if item[0] is not cycle)
        cycle.disconnected = cycle.response_complete = True
        cycle.message_event.set()
        return False

    def _say(self, refusal: Refusal) -> None:
        body = error_body(InvalidInput(refusal.message))
        head = b"%b%b%bconnection: close\r\ncontent-length: %d\r\n\r\n"
        retry = b"retry-after: 1\r\n" if refusal.status == 503 else b""
        kind = b"content-type: application/json\r\n" + retry
        self.door.flush()
        self.transport.write(head % (status_line(refusal.status), self.door.date_header, kind, len(body)) + body)
        self._linger()

    def _linger(self) -> None:
        """Write no more; what still arrives is read for a while, so that the answer arrives as well."""
        self.lingering = True
        self.since = self.door.now
        if self.half_closed:
            self.transport.close()
        else:
            self.transport.write_eof()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread_since = self.door.now
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread_since = None
        self._resume_reading()

    def sweep(self, now: float) -> None:
        """Close what takes too long: called for every connection, about once a second."""
        settings = self.door.settings
        waited = now - self.since
        if self.unread_since is not None:
            if now - self.unread_since > settings.send_timeout:
                self.transport.abort()
        elif self.lingering or self.transport.is_closing():
            if waited > (LINGER if self.lingering else settings.send_timeout):
                self.transport.abort()
        elif self.receiving:
            if self.flow.read_paused:
                self.since = now  # it is we who wait
            elif waited > settings.receive_timeout:
                self._refuse(408, f"the request did not arrive within {settings.receive_timeout:g} s")
        elif self.idle and waited > (PARTING if self.door.draining else settings.keep_alive):
            self._part()

    def _part(self) -> None:
        """Close an idle connection, unless something has arrived that the loop has not read yet.

        The loop closes a socket a turn later, in which a request could come and be lost: the client is
        told at once, on the socket itself.
        """
        fileno = self.transport.get_extra_info("socket").fileno()
        waiting = select.poll()
        waiting.register(fileno, select.POLLIN)
        if waiting.poll(0):
            return
        with socket.socket(fileno=os.dup(fileno)) as sock, suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        self.transport.close()

    @property
    def idle(self) -> bool:
        """Nothing arrives, runs or waits to be written."""
        return not (self.receiving or self.exchanges or self.pipeline or self._answering())

    def shutdown(self) -> None:
        """The server stops: close after what is under way; the sweep closes what is idle."""
        self.closing = True
        cycle: Any = self.cycle
        if isinstance(cycle, RequestResponseCycle) and not (cycle.response_complete or self.pipeline):
            cycle.keep_alive = False
