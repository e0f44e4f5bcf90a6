"""What all connections of the HTTP door share: routes, limits, the coarse clock, draining."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from forwardpass.config import Settings
from forwardpass.errors import BackendFailed
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http.exchange import Exchange, Head, Route
from forwardpass.server.http.v1 import V1Route
from forwardpass.server.http.v2 import V2Route
from forwardpass.server.served import ServedModel, clock, newest

if TYPE_CHECKING:
    from forwardpass.server.http.connection import Connection

MAX_HEADS = 2048  # heads remembered, of at most MAX_HEAD bytes each
MAX_HEAD = 2048

log = logging.getLogger(__name__)


class Door:
    """Shared by all connections. ``routes`` maps a predict URL, as bytes, to what answers it."""

    def __init__(self, dataplane: DataPlane, settings: Settings) -> None:
        self.dataplane = dataplane
        self.settings = settings
        self.routes: dict[bytes, Route] = {}
        self.heads: dict[bytes, Head] = {}  # the bytes of a request's line and headers -> what they mean
        self.elsewhere: frozenset[str] = frozenset()  # names that another front answers for
        self.draining = False
        self.now = clock()
        self.date_header = b""
        self._by_served: dict[ServedModel, tuple[V2Route, V1Route]] = {}
        self._outbox: list[tuple[Any, bytes]] = []
        dataplane.answered = self.flush
        self.tick()

    def write_later(self, transport: Any, answer: bytes) -> None:
        """Write an answer once all answers of its batch are encoded.

        Encoding many and then sending many keeps each in the processor's caches; a sixth of the
        time at 64 connections.
        """
        self._outbox.append((transport, answer))

    def flush(self) -> None:
        """Write what waits for it, in order."""
        outbox, self._outbox = self._outbox, []
        for transport, answer in outbox:
            try:  # noqa: SIM105  costs nothing where nothing is raised
                transport.write(answer)
            except RuntimeError:  # broken since; the other answers go out, and the worker's link lives on
                pass

    def tick(self) -> None:
        """Called about once a second: the coarse clock, and the date of answers."""
        self.now = clock()
        self.date_header = f"date: {formatdate(usegmt=True)}\r\n".encode()

    def sweep(self, connections: Iterable[Any]) -> None:
        """Close the connections that take too long."""
        for connection in list(connections):
            guarded: Connection = connection
            if not guarded.lost:
                guarded.sweep(self.now)

    def drain(self, connections: Iterable[Any]) -> None:
        """From now on answers close their connections, and what is idle counts as idle since now.

        The coarse clock would let one that was used a moment ago look idle for a second.
        """
        self.draining = True
        self.tick()
        for connection in connections:
            guarded: Connection = connection
            if guarded.idle:
                guarded.since = self.now

    def rebuild(self) -> None:
        """Models have come, become ready or gone."""
        served = [item for item in self.dataplane.all() if item.ready and item.name not in self.elsewhere]
        self._by_served = {item: self._by_served.get(item) or (V2Route(item), V1Route(item)) for item in served}
        routes: dict[bytes, Route] = {}
        for name in {item.name for item in served}:
            versions = [item for item in served if item.name == name]
            for item in versions:
                self._add(routes, f"{name}/versions/{item.version}", item)
            self._add(routes, name, newest(versions))
        known = self.elsewhere | self.dataplane.models.keys()
        if served and len(known) == 1:
            routes[b"/invocations"] = self._by_served[newest(served)][1]
        self.routes = routes
        self.heads.clear()

    def learn(self, raw: bytes, head: Head) -> None:
        """Remember a head, so that the same bytes need not be parsed again."""
        if len(raw) > MAX_HEAD:
            return
        if len(self.heads) >= MAX_HEADS:
            self.heads.clear()
        self.heads[raw] = head

    def find_route(self, url: bytes) -> Route | None:
        """The route of a URL that is not written as in ``routes``: with a query, escaped, or with a host."""
        if url.startswith((b"http://", b"https://")):
            url = b"/" + url.split(b"/", 3)[-1]
            return self.routes.get(url) or self.find_route(url)
        if b"?" not in url and b"%" not in url:
            return None
        try:
            return self.routes.get(unquote(url.partition(b"?")[0].decode()).encode())
        except UnicodeDecodeError:
            return None

    def cancel(self, exchange: Exchange) -> None:
        """Its client is gone."""
        scheduler = exchange.head.route.served.scheduler
        if scheduler is not None and not exchange.done:
            scheduler.cancel(exchange)

    def internal_error(self, exchange: Exchange, error: Exception) -> None:
        """A fault of ours while a request was decoded: logged whole, told in one line."""
        log.error("a request could not be decoded", exc_info=error)
        failure = BackendFailed("the request could not be read; the server's log says why")
        self.dataplane.refused(exchange.head.route.served, exchange, failure)
        exchange.fail(failure)

    def _add(self, routes: dict[bytes, Route], path: str, served: ServedModel) -> None:
        v2, v1 = self._by_served[served]
        routes[f"/v2/models/{path}/infer".encode()] = v2
        routes[f"/v1/models/{path}:predict".encode()] = v1
