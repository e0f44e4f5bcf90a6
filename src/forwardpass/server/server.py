"""One serving process, put together: models, data plane, metrics, the doors, signals and draining.

SIGTERM or SIGINT: readiness goes, answers under way are finished, workers end, the process exits
with 0. A second SIGINT ends it at once. Knows of a door only how it is started and stopped.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forwardpass.config import Settings
from forwardpass.engine.nursery import Nursery
from forwardpass.errors import InvalidSettings
from forwardpass.monitoring import Metrics
from forwardpass.server.composed import Composer
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.handover import hand_over
from forwardpass.server.http.app import App
from forwardpass.server.http.jobs import Bulk
from forwardpass.server.http.server import LINGER, HttpServer
from forwardpass.server.intake import Intake
from forwardpass.server.loop import freeze, run_loop
from forwardpass.server.plan import plan_fronts
from forwardpass.server.records import Recorder, Sink
from forwardpass.server.served import State
from forwardpass.server.statistics import Statistics
from forwardpass.server.tuning import Tuning

if TYPE_CHECKING:
    from forwardpass.server.grpc.server import GrpcServer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sockets:
    """Where the doors listen; ``grpc`` is None where that door stays shut."""

    http: socket.socket
    grpc: socket.socket | None = None
    relay: socket.socket | None = None  # on loopback, where there are other fronts: they relay to it

    @classmethod
    def take(cls, settings: Settings) -> Sockets:
        """Take the ports that the settings name. Raises ``InvalidSettings`` where one cannot be taken."""
        several = plan_fronts(settings) > 1
        http = listen(settings.host, settings.port, "choose another --port", shared=settings.reuse_port or several)
        remedy = "choose another --grpc-port, or --no-grpc"
        try:
            grpc = settings.grpc and listen(settings.host, settings.grpc_port, remedy, shared=settings.reuse_port)
            relay = several and listen("127.0.0.1", 0, "let there be a free port on loopback")
            return cls(http, grpc or None, relay or None)
        except InvalidSettings:
            http.close()
            raise


def listen(host: str, port: int, remedy: str, *, shared: bool = False) -> socket.socket:
    """The listening socket. Raises ``InvalidSettings`` where the address cannot be taken.

    ``shared``: other processes that say so as well may listen there too.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidSettings(f"cannot listen on {host}:{port}: {reason}; {remedy}") from None
    return sock


def run(
    paths: Sequence[Any],
    settings: Settings,
    sockets: Sockets,
    nursery: Nursery,
    on_ready: Callable[[DataPlane], None],
    sinks: Sequence[Sink] = (),
    bulk: Bulk | None = None,
    tuning: Tuning | None = None,
    composer: Composer | None = None,
    intake: Intake | None = None,
) -> None:
    """Serve until a signal says stop. ``on_ready`` is called once all models are up, or have failed."""
    server = Server(paths, settings, sockets, nursery, sinks, bulk, tuning, composer, intake)
    run_loop(server.main(on_ready))


class Server:
    """Everything of one serving process."""

    def __init__(
        self,
        paths: Sequence[Any],
        settings: Settings,
        sockets: Sockets,
        nursery: Nursery,
        sinks: Sequence[Sink],
        bulk: Bulk | None,
        tuning: Tuning | None,
        composer: Composer | None,
        intake: Intake | None,
    ) -> None:
        self.settings = settings
        metrics = Metrics()
        self.dataplane = DataPlane(Recorder((metrics, *filter(None, (tuning,)), *sinks)))
        relay = sockets.relay
        self.fronts = Fronts(settings, self._take_socket, relay.getsockname()[1] if relay else 0)
        self.control = Control(self.dataplane, nursery, settings, paths, self.fronts, composer)
        self.statistics = Statistics(self.dataplane, metrics, self.fronts)
        app = App(self.dataplane, self.control, self.statistics, bulk, intake).build()
        self.http = HttpServer(self.dataplane, app, self.fronts.own_settings, sockets.http, *filter(None, (relay,)))
        self.grpc: GrpcServer | None = None
        self._jobs = bulk.jobs if bulk is not None else None
        self._intake = intake
        self._nursery = nursery
        self._sockets = sockets
        self._stop = asyncio.Event()
        self._tuning = tuning
        self._renewing: set[asyncio.Task[None]] = set()

    async def main(self, on_ready: Callable[[DataPlane], None]) -> None:
        """Load, serve, drain, stop."""
        loop = asyncio.get_running_loop()
        self._nursery.listen(loop)
        self.dataplane.recorder.call_later = loop.call_later
        self.control.on_change = self._changed
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal, signum)
        self.fronts.on_restart = self._renew
        self.fronts.start()
        await self.control.start()
        while self.settings.reuse_port and self._loading() and not self._stop.is_set():
            await asyncio.sleep(0.005)  # whoever listens besides answers until this process can
        serving = self.http.start()
        await self._start_grpc(serving)
        await self._until(serving, lambda: not self._loading())
        await self.fronts.settle()
        freeze()
        if not self._stop.is_set() and not serving.done():
            on_ready(self.dataplane)
            if self._jobs is not None:
                self._jobs.start()
        await self._tune_until_stop(serving)
        await self._drain(serving)
        await self.control.stop()
        self.dataplane.recorder.flush()
        self._nursery.close()
        if self._intake is not None:
            self._intake.close()

    async def _start_grpc(self, serving: asyncio.Task[None]) -> None:
        """Once the first model is up: the library takes a while to import, and HTTP need not wait for it."""
        if self._sockets.grpc is None:
            return
        await self._until(serving, lambda: len(self._loading()) < len(self.dataplane.all()) or not self._loading())
        if self._stop.is_set() or serving.done():
            return
        module = await asyncio.to_thread(_import_grpc)
        self.grpc = module.GrpcServer(self.dataplane, self.control, self.statistics, self.settings)
        await self.grpc.start(self._sockets.grpc)

    def _take_socket(self) -> socket.socket:
        """Where another front listens: on the same port."""
        host, port = self._sockets.http.getsockname()[:2]
        return listen(host, port, "stop what else listens there", shared=True)

    def _renew(self) -> None:
        task = asyncio.ensure_future(self.control.renew())
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    def _changed(self) -> None:
        self.http.door.rebuild()
        if self.grpc is not None:
            self.grpc.rebuild()

    def _on_signal(self, signum: int) -> None:
        if self._stop.is_set() and signum == signal.SIGINT:
            raise SystemExit(1)  # Ctrl-C twice; SIGTERM may come twice (to the process and to its group)
        self._stop.set()

    def _loading(self) -> list[str]:
        return [served.name for served in self.dataplane.all() if served.state is State.LOADING]

    async def _until(self, serving: asyncio.Task[None], true: Callable[[], bool]) -> None:
        while not (self._stop.is_set() or serving.done() or true()):
            await asyncio.sleep(0.005)

    async def _tune_until_stop(self, serving: asyncio.Task[None]) -> None:
        tuning = None if self._tuning is None else asyncio.ensure_future(self._tuning.run(self.dataplane))
        await self._until_stop(serving)
        if tuning is not None:
            tuning.cancel()
            await asyncio.wait({tuning})

    async def _until_stop(self, serving: asyncio.Task[None]) -> None:
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    async def _drain(self, serving: asyncio.Task[None]) -> None:
        log.info("stopping: finishing what is under way")
        self.dataplane.draining = True
        self.http.drain()
        self._changed()
        if self.settings.reuse_port:
            hand_over(self._sockets.http, self.fronts.count)
        if self._jobs is not None:
            await asyncio.to_thread(self._jobs.stop)
        await asyncio.sleep(LINGER)
        await self.fronts.drain()
        self.http.stop()
        if self.grpc is not None:
            await self.grpc.stop()
        await serving
        self.http.close()


def _import_grpc() -> Any:
    from forwardpass.server.grpc import server

    return server
