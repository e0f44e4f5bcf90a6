"""One HTTP exchange in the fast lane: a request that knows how its answer goes back.

A ``Route`` turns the body into columns and the outputs into a body; the exchange adds what HTTP
wants around it. An answer that took no queue (an error before admission) goes the same way.
"""

from __future__ import annotations

import gzip
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forwardpass.errors import ForwardpassError, InvalidInput, TooLarge
from forwardpass.scheduler import Batch, Request
from forwardpass.server.http.status import STATUS, error_body, error_headers, status_line
from forwardpass.server.served import ServedModel
from forwardpass.types import Columns

if TYPE_CHECKING:
    from forwardpass.server.http.connection import Connection

JSON = b"content-type: application/json\r\n"
COMPRESS_FROM = 1024  # bytes of a JSON answer from which compressing it is worth the time
_PASSING = frozenset((b"expect", b"transfer-encoding", b"upgrade", b"x-request-id", b"traceparent"))
_OK = status_line(200)
_LINES = {status: status_line(status) for status in set(STATUS.values()) | {408, 431}}


class Route(ABC):
    """What one predict URL does: decode a body into a request, encode outputs into a body."""

    served: ServedModel

    @abstractmethod
    def decode(self, exchange: Exchange) -> None:
        """Set ``columns``, ``rows``, ``nbytes``, ``key`` and ``deadline``. Raises ``InvalidInput``."""

    @abstractmethod
    def encode(self, exchange: Exchange, outputs: Columns) -> tuple[bytes, bytes]:
        """Header lines that describe the body, and the body."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's line and headers, understood: what they ask for, and how the answer goes back.

    ``length`` is the body's where the headers give it, ``split`` the length of the JSON before raw
    tensors (V2), ``coding`` the content encoding or empty. ``echo`` are header lines of every answer.
    ``background`` is what ``X-Priority: background`` asks for, ``id`` what ``X-Request-ID`` says.
    """

    route: Route
    headers: dict[bytes, bytes]
    keep_alive: bool
    length: int | None
    split: int | None
    coding: bytes
    echo: bytes
    background: bool
    id: str

    @property
    def constant(self) -> bool:
        """Whether the same bytes will mean the same when they come again."""
        return self.keep_alive and self.headers.keys().isdisjoint(_PASSING)


def create_head(route: Route, lines: list[tuple[bytes, bytes]], keep_alive: bool) -> Head:
    """The head from its header lines, names in any case; lines of one name are a list."""
    headers: dict[bytes, bytes] = {}
    for name, value in lines:
        lower = name.lower()
        headers[lower] = b"%b, %b" % (headers[lower], value) if lower in headers else value
    echo = headers.get(b"x-request-id")
    return Head(
        route,
        headers,
        keep_alive,
        length=_number(headers.get(b"content-length")),
        split=_number(headers.get(b"inference-header-content-length")),
        coding=headers.get(b"content-encoding", b"").lower(),
        echo=b"" if echo is None else b"x-request-id: %b\r\n" % echo,
        background=headers.get(b"x-priority", b"").lower() == b"background",
        id="" if echo is None else echo.decode("latin-1"),
    )


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None


class Exchange(Request):
    """A predict request over HTTP. Its ``id`` is that of a V2 body, else that of its head."""

    door = "http"
    rows = 0
    answer: bytes | None = None  # kept while earlier exchanges of the connection are not written
    response_complete = False
    last = False  # the connection closes after this answer
    body_id = ""  # V2: what the body calls it, and its answer does too
    binary: dict[str, bool] | None = None  # V2: the outputs asked for, and whether each as raw bytes

    def __init__(self, connection: Connection, head: Head, body: bytes | bytearray = b"") -> None:
        self.connection = connection
        self.head = head
        self.body = body
        if head.id:
            self.id = head.id

    def succeed(self, outputs: Columns) -> None:
        try:
            kind, body = self.head.route.encode(self, outputs)
        except InvalidInput as error:  # it cannot be written in the form that was asked for
            self.outcome = error.outcome
            self.fail(error)
            return
        batch, started = self.batch, self.started
        if batch is not None and started is not None:
            if self.whole is not None:
                shared = _timing_of(*(part.batch for part in self.whole.parts))
            else:
                shared = batch.server_timing or _server_timing(batch)
            kind = b"%bserver-timing: queue;dur=%.3f%b" % (kind, (started - self.arrived) * 1e3, shared)
        self._send(_OK, kind, body)

    def fail(self, error: ForwardpassError) -> None:
        extra = b"".join(b"%b: %b\r\n" % header for header in error_headers(error))
        self._send(_LINES[STATUS[error.outcome]], JSON + extra, error_body(error))

    def _send(self, line: bytes, headers: bytes, body: bytes) -> None:
        if len(body) >= COMPRESS_FROM and headers.startswith(JSON) and self._takes_gzip():
            body = gzip.compress(body, 1, mtime=0)
            headers += b"content-encoding: gzip\r\n"
        self.bytes_out = len(body)
        self.connection.reply(self, line, headers, body)

    def _takes_gzip(self) -> bool:
        return b"gzip" in self.head.headers.get(b"accept-encoding", b"")


def _server_timing(batch: Batch) -> bytes:
    """The stages that all answers of a batch share; kept with the batch."""
    batch.server_timing = _timing_of(batch)
    return batch.server_timing


def _timing_of(*batches: Batch | None) -> bytes:
    """The stages of all batches that a request's rows ran in, in milliseconds; of each batch once."""
    times = [batch.times for batch in dict.fromkeys(batches) if batch is not None and batch.times is not None]
    stages = (
        sum(item.preprocess for item in times) * 1e3,
        sum(item.forward for item in times) * 1e3,
        sum(item.postprocess for item in times) * 1e3,
    )
    return b", preprocess;dur=%.3f, forward;dur=%.3f, postprocess;dur=%.3f\r\n" % stages


def decompressed(body: bytes, coding: bytes, most: int) -> bytes:
    """A body sent with ``Content-Encoding``. Raises ``InvalidInput``, or ``TooLarge`` over ``most`` bytes."""
    codings = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
    if coding in (b"", b"identity"):
        return body
    if coding not in codings:
        raise InvalidInput(f"content-encoding {coding.decode('latin-1')!r} is not known; use gzip, deflate or none")
    inflate = zlib.decompressobj(codings[coding])
    try:
        plain = inflate.decompress(body, most + 1)
    except zlib.error:
        raise InvalidInput(f"the body is not valid {coding.decode()}") from None
    if len(plain) > most:
        raise TooLarge(f"the body unpacks to more than {most} bytes, the most this server takes")
    if not inflate.eof:
        raise InvalidInput(f"the {coding.decode()} body is cut off")
    if inflate.unused_data:
        raise InvalidInput(f"{len(inflate.unused_data)} bytes come after the end of the {coding.decode()} body")
    return plain
