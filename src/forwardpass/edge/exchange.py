"""A predict request over HTTP whose answer is awaited: the server's exchange, for a connection that takes turns.

The server's routes decode and encode it; how it is read and written is the connection's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any, cast

from forwardpass.edge.endpoints import Answer
from forwardpass.errors import ForwardpassError
from forwardpass.server.http.exchange import Exchange, Head, Route
from forwardpass.server.http.v1 import V1Route
from forwardpass.server.http.v2 import V2Route
from forwardpass.server.served import ServedModel
from forwardpass.types import Columns, Outcome


class EdgeExchange(Exchange):
    """A predict request whose answer is awaited by its connection."""

    def __init__(self, head: Head, body: bytes) -> None:
        self.awaited: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.outputs: Columns | None = None
        self.error: str | None = None
        self.columns = {}  # until it is decoded
        super().__init__(cast(Any, _Mailbox(self.awaited)), head, body)

    def succeed(self, outputs: Columns) -> None:
        super().succeed(outputs)
        if self.outcome is Outcome.OK:
            self.outputs = outputs

    def fail(self, error: ForwardpassError) -> None:
        self.error = error.message
        super().fail(error)


@dataclass(frozen=True, slots=True)
class _Mailbox:
    """What an exchange takes for its connection: keeps the answer for whoever awaits it."""

    answer: asyncio.Future[Answer]

    def reply(self, exchange: Exchange, line: bytes, headers: bytes, body: bytes) -> None:
        echo = exchange.head.echo
        if exchange.id and not (exchange.head.id or exchange.body_id):  # drawn here: rows of it are asked about later
            echo = b"x-request-id: %b\r\n" % exchange.id.encode()
        pairs = [header.split(b": ", 1) for header in (headers + echo).split(b"\r\n") if header]
        if not self.answer.done():
            self.answer.set_result(Answer(int(line[9:12]), [(name, value) for name, value in pairs], body))


def head_for(served: ServedModel, route: Route, head: Head) -> Head:
    """The same request for another version."""
    return replace(head, route=V2Route(served) if isinstance(route, V2Route) else V1Route(served))
