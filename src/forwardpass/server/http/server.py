"""The HTTP door's listening: uvicorn's server with our connections, its sweep, its drain.

Draining: answers under way are finished with ``Connection: close``, idle connections are closed.
Knows nothing of signals and of how models come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from forwardpass.config import Settings
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http.connection import Connection
from forwardpass.server.http.door import Door

SWEEP = 1.0
SLICE = 64  # connections looked at in one turn of the loop
LINGER = 0.2  # seconds a door stays open when draining, for requests already on their way


class HttpServer:
    """Listens on ``socks`` from ``start`` to ``stop``; ``close`` when its task is done.

    ``app`` is the ASGI application for all that is not a prediction.
    """

    def __init__(self, dataplane: DataPlane, app: Any, settings: Settings, *socks: socket.socket) -> None:
        self.door = Door(dataplane, settings)
        self._settings = settings
        self._socks = list(socks)
        self._server = _Uvicorn(self._config(app))
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Serve, from now on; the task ends when all connections have ended."""
        loop = asyncio.get_running_loop()
        self._sweeping = loop.create_task(self._sweep())
        return loop.create_task(self._server.serve(sockets=self._socks))

    def drain(self) -> None:
        """Answers say ``Connection: close`` from now on."""
        self.door.drain(self._server.server_state.connections)

    def stop(self) -> None:
        """Take no more connections, close the idle ones, finish the others."""
        self._server.should_exit = True
        for connection in list(self._server.server_state.connections):
            connection.shutdown()
        self.door.tick()
        self.door.sweep(self._server.server_state.connections)

    def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _config(self, app: Any) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            http=functools.partial(Connection, self.door),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=3600,  # ours to decide, in the sweep
            timeout_graceful_shutdown=max(1, round(self._settings.drain_timeout)),
            backlog=2048,
        )

    async def _sweep(self) -> None:
        settings = self._settings
        timeouts = (settings.receive_timeout, settings.send_timeout, settings.keep_alive)
        usual = min(SWEEP, *(timeout / 4 for timeout in timeouts))
        while True:
            await asyncio.sleep(0.05 if self.door.draining else usual)
            self.door.tick()
            connections = list(self._server.server_state.connections)
            for start in range(0, len(connections), SLICE):
                self.door.sweep(connections[start : start + SLICE])
                await asyncio.sleep(0)  # answers do not wait until thousands are looked at, or closed


class _Uvicorn(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again after shutdown, and exit by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
