"""The HTTP door of an agent: V1 and V2 predictions, health, metadata, status, on localhost and a Unix socket.

Bodies are decoded and encoded by the server's own routes, so the answers are the server's, byte for
byte. Knows who is connected and which URL means which version; how bytes are read is in ``connection``.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol

from forwardpass.edge.connection import Connection
from forwardpass.edge.endpoints import Endpoints
from forwardpass.edge.probation import Ask, T
from forwardpass.edge.reader import Reader
from forwardpass.edge.settings import AgentSettings
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http.exchange import Exchange, Route
from forwardpass.server.http.v1 import V1Route
from forwardpass.server.http.v2 import V2Route
from forwardpass.server.served import ServedModel, newest
from forwardpass.types import Columns

LINGER = 0.2  # seconds it stays open when the agent stops, for those on their way
MOST_LOCAL = 16  # connections to the Unix socket: however many there are elsewhere, the owner can ask how things are


class Watcher(Protocol):
    """Who is told of predictions over HTTP, and knows which version is asked for them."""

    def answered(self, exchange: Exchange, served: ServedModel, outputs: Columns | None, error: str | None) -> None: ...
    async def ask(self, served: ServedModel, ask: Ask[T]) -> tuple[ServedModel, T]: ...


class Door:
    """Listens from ``start`` to ``stop``. ``rebuild`` is called when models come, are ready or go."""

    def __init__(self, dataplane: DataPlane, settings: AgentSettings, endpoints: Endpoints, watcher: Watcher) -> None:
        self.dataplane = dataplane
        self.settings = settings
        self.endpoints = endpoints
        self.watcher = watcher
        self.draining = False
        self._connections: set[Connection] = set()
        self._routes: dict[str, Route] = {}
        self._servers: list[asyncio.Server] = []

    async def start(self, sock: socket.socket) -> None:
        """Take connections on a socket that is bound."""
        local = sock.family == socket.AF_UNIX
        crowd = Crowd(MOST_LOCAL if local else self.settings.max_connections)

        def protocol() -> asyncio.BaseProtocol:
            reader = Reader()
            return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._begin(crowd, reader, writer))

        self._servers.append(await asyncio.get_running_loop().create_server(protocol, sock=sock))

    async def stop(self, timeout: float) -> None:
        """Finish what has arrived, also what does in a moment, within ``timeout`` seconds, and close the rest."""
        self.draining = True
        end = asyncio.get_running_loop().time() + timeout
        for connection in self._connections:
            connection.leave()
        if self._servers:
            await asyncio.sleep(min(LINGER, timeout))
        for server in self._servers:
            server.close()
        while self._connections and (rest := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait([connection.task for connection in self._connections], timeout=rest)
        tasks = [connection.task for connection in self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def rebuild(self) -> None:
        """The routes of the models that are ready."""
        served = [item for item in self.dataplane.all() if item.ready]
        routes: dict[str, Route] = {}
        for name in {item.name for item in served}:
            versions = [item for item in served if item.name == name]
            for item in versions:
                _add(routes, f"{name}/versions/{item.version}", item)
            _add(routes, name, newest(versions))
        if len(self.dataplane.models) == 1 and routes:
            routes["/invocations"] = next(route for path, route in routes.items() if path.endswith(":predict"))
        self._routes = routes

    def route(self, path: str) -> Route | None:
        return self._routes.get(path)

    def _begin(self, crowd: Crowd, reader: Reader, writer: asyncio.StreamWriter) -> None:
        """Its task is its own: one that a stream began says it in the log when it is cancelled."""
        connection = Connection(self, reader, writer, crowd)
        self._connections.add(connection)
        connection.task.add_done_callback(lambda _: self._ended(crowd, connection))

    def _ended(self, crowd: Crowd, connection: Connection) -> None:
        crowd.number -= 1
        self._connections.discard(connection)


@dataclass
class Crowd:
    """The connections of one socket."""

    most: int
    number: int = 0


def _add(routes: dict[str, Route], path: str, served: ServedModel) -> None:
    routes[f"/v2/models/{path}/infer"] = V2Route(served)
    routes[f"/v1/models/{path}:predict"] = V1Route(served)
