"""The HTTP door of an agent: V1 and V2 predictions, health, metadata, status, on localhost and a Unix socket.

Bodies are decoded and encoded by the server's own routes, so the answers are the server's, byte for
byte. Knows who is connected and which URL means which version; how bytes are read is in ``connection``.
"""

from __future__ import annotations

import asyncio
import socket
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
        self.connections: set[Connection] = set()
        self._routes: dict[str, Route] = {}
        self._servers: list[asyncio.Server] = []

    async def start(self, sock: socket.socket) -> None:
        """Take connections on a socket that is bound."""
        self._servers.append(await asyncio.get_running_loop().create_server(self._protocol, sock=sock))

    async def stop(self, timeout: float) -> None:
        """Take no more connections, finish what is under way within ``timeout`` seconds, close the rest."""
        self.draining = True
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.leave()
        tasks = [connection.task for connection in self.connections]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
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

    def _protocol(self) -> asyncio.BaseProtocol:
        reader = Reader()
        return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._serve(reader, writer))

    async def _serve(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = Connection(self, reader, writer, task)
        self.connections.add(connection)
        try:
            await connection.serve()
        finally:
            self.connections.discard(connection)


def _add(routes: dict[str, Route], path: str, served: ServedModel) -> None:
    routes[f"/v2/models/{path}/infer"] = V2Route(served)
    routes[f"/v1/models/{path}:predict"] = V1Route(served)
