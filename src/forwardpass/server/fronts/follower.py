"""A front that is not the first: its own HTTP door and queues, workers that the first one starts.

Begins to listen once it can answer for every model. Ends when it is told to, or when the first front
is gone. Run as ``python -m forwardpass.server.fronts.follower FD``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable
from functools import partial
from pathlib import Path

from forwardpass.engine.group import ReplicaGroup
from forwardpass.engine.link import Link
from forwardpass.engine.messages import FailedHead, ReadyHead
from forwardpass.errors import NotReady
from forwardpass.monitoring import Metrics
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Scheduler
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.channel import Channel
from forwardpass.server.fronts.limits import SharedLimits
from forwardpass.server.fronts.messages import (
    Attach,
    Done,
    Drain,
    Elsewhere,
    ModelReport,
    Order,
    Publish,
    Report,
    Reported,
    Retire,
    Settle,
    Start,
)
from forwardpass.server.http.relay import Relay
from forwardpass.server.http.server import LINGER, HttpServer
from forwardpass.server.loop import freeze, run_loop
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel, State

log = logging.getLogger(__name__)


def main(fd: int) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):  # the first front decides when to stop
        signal.signal(signum, signal.SIG_IGN)
    run_loop(_follow(fd))


async def _follow(fd: int) -> None:
    channel = Channel(socket.socket(fileno=fd), Order, _fds_of)
    started: asyncio.Future[Follower] = asyncio.get_running_loop().create_future()
    channel.heard = lambda message, fds: started.set_result(_start(message, fds, channel))
    channel.closed = lambda: os._exit(0)  # the first front ended before this one had begun
    await (await started).ended.wait()


def _start(start: Order, fds: list[int], channel: Channel) -> Follower:
    """What comes next on the channel is for the follower."""
    assert isinstance(start, Start)
    logging.basicConfig(level=start.settings.log_level.upper(), format="%(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel("WARNING")
    listening, memory = fds
    return Follower(start, socket.socket(fileno=listening), SharedLimits(memory, start.fronts), channel)


def _fds_of(message: Order) -> int:
    """How many descriptors come with a message."""
    return 2 if isinstance(message, Start) else Link.width() if isinstance(message, Attach) else 0


class Follower:
    """Models by the key of their load, and the doors that serve those published."""

    def __init__(self, start: Start, sock: socket.socket, limits: SharedLimits, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.metrics = Metrics()
        self.dataplane = DataPlane(Recorder((self.metrics,)))
        self.dataplane.recorder.call_later = loop.call_later
        self.http = HttpServer(self.dataplane, Relay(start.relay), start.settings, sock)
        self._settings = start.settings
        self._index = start.index
        self._limits = limits
        self._channel = channel
        self._models: dict[int, tuple[ServedModel, ReplicaGroup]] = {}
        self._serving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        channel.heard = self._heard
        channel.closed = self.ended.set

    def _heard(self, order: Order, fds: list[int]) -> None:
        match order:
            case Attach():
                self._begin(self._attach(order, *Link.all_of(fds)))
            case Publish():
                self._publish(order.key)
            case Elsewhere():
                self.http.door.elsewhere = frozenset(order.names)
                self.http.door.rebuild()
            case Retire():
                self._begin(self._retire(order))
            case Settle():
                self._begin(self._settle(order))
            case Report():
                self._channel.send(Reported(order.call, self._reports()))
            case Drain():
                self._begin(self._drain())

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Models

    def _attach(self, order: Attach, link: Link) -> Awaitable[None]:
        if order.key not in self._models:
            served = ServedModel(ModelLocation(order.name, order.version, Path(order.path)))
            served.key, served.limits = order.key, order.limits
            served.share = self._limits.share(order.slot, self._index)
            group = ReplicaGroup(order.name, partial(self._ready, served), partial(self._failed, served))
            self._models[order.key] = served, group
        return self._models[order.key][1].add(order.pid, link)

    def _ready(self, served: ServedModel, ready: ReadyHead) -> Scheduler:
        scheduler = self.dataplane.open(served, ready)
        self.http.door.rebuild()
        return scheduler

    def _failed(self, served: ServedModel, failed: FailedHead) -> None:
        """The first front answers for it from now on, and says why."""
        served.state, served.reason = State.UNAVAILABLE, failed.message
        if served.scheduler is not None:
            served.scheduler.stop(NotReady(f"model {served.name!r} is not ready: {failed.message}"))
        self.http.door.rebuild()

    def _publish(self, key: int) -> None:
        if key in self._models:  # else it has no worker yet, or none that knows this front
            self.dataplane.publish(self._models[key][0])
            self.http.door.rebuild()

    async def _retire(self, order: Retire) -> None:
        if order.key in self._models:
            served, group = self._models.pop(order.key)
            self.dataplane.withdraw(served)
            self.http.door.rebuild()
            await served.finish(self._settings.drain_timeout)
            await group.let_go()
        self._channel.send(Done(order.call))

    async def _settle(self, order: Settle) -> None:
        while any(self._pending(key) for key in order.keys):
            await asyncio.sleep(0.005)
        if self._serving is None:
            freeze()
            self._serving = self.http.start()
        self._channel.send(Done(order.call))

    def _pending(self, key: int) -> bool:
        """Whether a model's workers live, and have not said yet that they are ready."""
        if key not in self._models:
            return False
        served, group = self._models[key]
        return served.state is State.LOADING and group.size > 0

    # All together

    def _reports(self) -> list[ModelReport]:
        self.dataplane.recorder.flush()
        served = {(model.name, model.version): model for model in self.dataplane.all()}
        return [self._report(*key, served.get(key)) for key in {**self.metrics.models, **served}]

    def _report(self, name: str, version: str, served: ServedModel | None) -> ModelReport:
        stats, scheduler = self.metrics.stats(name, version), served and served.scheduler
        if not scheduler:
            return ModelReport(name, version, stats, {}, 0, 0)
        reasons = {str(reason): count for reason, count in scheduler.reasons.items()}
        return ModelReport(name, version, stats, reasons, scheduler.queued_rows, scheduler.queued_bytes)

    async def _drain(self) -> None:
        self.dataplane.draining = True
        self.http.drain()
        if self._serving is not None:
            await asyncio.sleep(LINGER)
            self.http.stop()
            await self._serving
        self.dataplane.recorder.flush()
        for served in self.dataplane.all():
            served.state = State.UNLOADING
        self._channel.close()
        self.ended.set()


if __name__ == "__main__":
    main(int(sys.argv[1]))
