"""Listening, draining and stopping: uvicorn's server, with our connections and our signals.

SIGTERM or SIGINT: readiness goes, answers under way are finished with ``Connection: close``, idle
connections are closed, workers end, the process exits with 0. A second SIGINT ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import uvicorn

from forwardpass.config import Settings
from forwardpass.engine.nursery import Nursery
from forwardpass.errors import InvalidSettings
from forwardpass.monitoring import Metrics
from forwardpass.monitoring.metrics import Gauge
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http.app import App
from forwardpass.server.http.connection import Connection
from forwardpass.server.http.door import Door
from forwardpass.server.records import Recorder, Sink

log = logging.getLogger(__name__)
LINGER = 0.2  # seconds idle connections stay open when draining, for requests already on their way
SWEEP = 1.0


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises ``InvalidSettings`` where the address cannot be taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidSettings(f"cannot listen on {host}:{port}: {reason}; choose another --port") from None
    return sock


def run(
    paths: Sequence[Any],
    settings: Settings,
    sock: socket.socket,
    nursery: Nursery,
    on_ready: Callable[[DataPlane], None],
    sinks: Sequence[Sink] = (),
) -> None:
    """Serve until a signal says stop. ``on_ready`` is called once all models are up, or have failed."""
    np.seterr(over="raise")  # a number that does not fit its tensor's type is an error, not infinity
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(HttpServer(paths, settings, sock, nursery, sinks).main(on_ready))


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


class HttpServer:
    """Everything of one serving process, put together."""

    def __init__(
        self, paths: Sequence[Any], settings: Settings, sock: socket.socket, nursery: Nursery, sinks: Sequence[Sink]
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.metrics.gauges = self._gauges
        self.dataplane = DataPlane(Recorder((self.metrics, *sinks)))
        self.control = Control(self.dataplane, nursery, settings, paths)
        self.door = Door(self.dataplane, settings)
        self._nursery = nursery
        self._sock = sock
        self._stop = asyncio.Event()

    async def main(self, on_ready: Callable[[DataPlane], None]) -> None:
        """Load, serve, drain, stop."""
        loop = asyncio.get_running_loop()
        self._nursery.listen(loop)
        self.dataplane.recorder.call_later = loop.call_later
        self.control.on_change = self.door.rebuild
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal, signum)
        await self.control.start()
        server = _Uvicorn(self._config())
        serving = loop.create_task(server.serve(sockets=[self._sock]))
        sweeping = loop.create_task(self._sweep(server))
        await self._settled(serving)
        gc.collect()
        gc.freeze()  # what is loaded stays; the collector need not look at it again
        gc.set_threshold(50_000, 20, 100)
        if not self._stop.is_set() and not serving.done():
            on_ready(self.dataplane)
        await self._until_stop(serving)
        await self._drain(server, serving)
        sweeping.cancel()
        await self.control.stop()
        self.dataplane.recorder.flush()
        self._nursery.close()

    def _config(self) -> uvicorn.Config:
        control = self.settings.model_control
        loopback = self.settings.host in ("localhost", "::1") or self.settings.host.startswith("127.")
        app = App(self.dataplane, self.control, self.metrics, model_control=loopback if control is None else control)
        return uvicorn.Config(
            app.build(),
            http=functools.partial(Connection, self.door),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=3600,  # ours to decide, in the sweep
            timeout_graceful_shutdown=max(1, round(self.settings.drain_timeout)),
            backlog=2048,
        )

    def _on_signal(self, signum: int) -> None:
        if self._stop.is_set() and signum == signal.SIGINT:
            raise SystemExit(1)  # Ctrl-C twice; SIGTERM may come twice (to the process and to its group)
        self._stop.set()

    async def _settled(self, serving: asyncio.Task[None]) -> None:
        """Wait until no model is loading any more."""
        while not (self._stop.is_set() or serving.done()) and any(s.state == "LOADING" for s in self.dataplane.all()):
            await asyncio.sleep(0.005)

    async def _until_stop(self, serving: asyncio.Task[None]) -> None:
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    async def _drain(self, server: _Uvicorn, serving: asyncio.Task[None]) -> None:
        log.info("stopping: finishing what is under way")
        self.dataplane.draining = self.door.draining = True
        await asyncio.sleep(LINGER)
        server.should_exit = True
        for connection in list(server.server_state.connections):
            connection.shutdown()
        self.door.sweep(server.server_state.connections)
        await serving

    async def _sweep(self, server: _Uvicorn) -> None:
        timeouts = (self.settings.receive_timeout, self.settings.send_timeout, self.settings.keep_alive)
        usual = min(SWEEP, *(timeout / 4 for timeout in timeouts))
        while True:
            await asyncio.sleep(0.05 if self.door.draining else usual)
            self.door.sweep(server.server_state.connections)

    def _gauges(self) -> Iterator[Gauge]:
        for served in self.dataplane.all():
            labels = {"model": served.name, "version": served.version}
            yield Gauge("model_ready", "1 where the version can answer", labels, float(served.ready))
            if served.scheduler is not None and served.replicas is not None:
                yield Gauge("queue_rows", "Rows that wait", labels, served.scheduler.queued_rows)
                yield Gauge("queue_bytes", "Bytes that wait", labels, served.scheduler.queued_bytes)
                yield Gauge("replicas_ready", "Workers that can take batches", labels, served.replicas.ready)
                yield Gauge("worker_restarts", "Workers started again since load", labels, served.replicas.restarts)
                for reason, count in served.scheduler.reasons.items():
                    yield Gauge("batches_by_reason", "Why batches left", {**labels, "reason": reason}, count)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again after shutdown, and exit by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
