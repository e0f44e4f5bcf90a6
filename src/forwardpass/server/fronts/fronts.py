"""The first front's handle on the others: starts them, gives them links to workers, asks what they saw.

With one front there are no others, and everything here is done at once. A front that dies is started
again, one that does not answer is killed; ``on_restart`` then sees to it that workers are started which
know it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from forwardpass.config import Settings
from forwardpass.engine.link import Link
from forwardpass.scheduler.share import QueueShare
from forwardpass.server.fronts.channel import Channel
from forwardpass.server.fronts.limits import SharedLimits
from forwardpass.server.fronts.messages import (
    Answer,
    Attach,
    Done,
    Drain,
    Elsewhere,
    ModelReport,
    Publish,
    Report,
    Reported,
    Retire,
    Settle,
    Start,
)
from forwardpass.server.plan import plan_fronts
from forwardpass.server.served import ServedModel

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds in which another front must answer
START = 60.0  # seconds in which a new one must have answered first: it has to import everything
LOOK = 0.01  # seconds between looks at a process that ends
FIRST = 0  # the index of this front


class Fronts:
    """All fronts but this. ``take_socket`` gives a socket bound to the port that all of them serve."""

    def __init__(self, settings: Settings, take_socket: Callable[[], socket.socket], relay: int) -> None:
        self.on_restart: Callable[[], None] = lambda: None
        self._settings = settings
        self._take_socket = take_socket
        self._relay = relay
        self._limits = SharedLimits.create(self.count) if self.count > 1 else None
        self._keys = itertools.count()
        self._calls = itertools.count()
        self._followers: dict[int, _Follower] = {}
        self._slots: dict[int, int | None] = {}  # by key, from ``admit`` to ``retire``
        self._published: dict[int, ServedModel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def count(self) -> int:
        """How many fronts there are, this one included."""
        return plan_fronts(self._settings)

    @property
    def own_settings(self) -> Settings:
        """The settings with this front's part of what all may have together."""
        return replace(self._settings, max_connections=-(-self._settings.max_connections // self.count))

    def start(self) -> None:
        for index in range(FIRST + 1, self.count):
            self._start_one(index)

    # Models

    def admit(self, served: ServedModel) -> QueueShare | None:
        """A version is about to be loaded; what its queue shares with those of the other fronts."""
        served.key = next(self._keys)
        if self._limits is None:
            return None
        self._slots[served.key] = slot = self._limits.take()
        return self._limits.share(slot, FIRST)

    def attach(self, served: ServedModel, pid: int, links: Sequence[Link]) -> None:
        """A worker was started: a link for each of the others."""
        path = str(served.location.path.resolve())
        slot = self._slots.get(served.key)
        order = Attach(served.key, slot, served.name, served.version, path, served.limits, pid)
        for index, link in enumerate(links, FIRST + 1):
            follower = self._followers.get(index)
            if follower is None or served.key not in self._slots:  # it died, or has let the model go
                link.close()
            else:
                follower.channel.send(order, link.fds, link.close)
                if served.key in self._published:  # before there was a worker of it, or before there was this front
                    follower.channel.send(Publish(served.key))

    def publish(self, served: ServedModel) -> None:
        """Its name and version mean this one from now on."""
        self._published[served.key] = served
        for follower in self._followers.values():
            follower.channel.send(Publish(served.key))
            if served.composed is not None:
                follower.channel.send(self._elsewhere())

    async def settle(self) -> None:
        """Return once all fronts can answer for what was published, as far as it is ready here."""
        await self._ask(partial(Settle, [key for key, served in self._published.items() if served.ready]))

    async def retire(self, served: ServedModel, timeout: float) -> None:
        """Return once no front uses its workers any more."""
        if self._published.pop(served.key, None) is not None and served.composed is not None:
            for follower in self._followers.values():
                follower.channel.send(self._elsewhere())
        await self._ask(partial(Retire, served.key), timeout + PATIENCE)

    def release(self, served: ServedModel) -> None:
        """No queue of it is left, here or elsewhere: another may have its place in the shared limits."""
        if self._limits is not None:
            self._limits.give_back(self._slots.pop(served.key, None))

    # All together

    async def reports(self) -> list[ModelReport]:
        """What the others saw."""
        answers = await self._ask(Report)
        return [report for answer in answers if isinstance(answer, Reported) for report in answer.models]

    async def drain(self) -> None:
        """Let the others finish and end."""
        self._stopping = True
        followers = list(self._followers.values())
        for follower in followers:
            follower.channel.send(Drain())
        timeout = self._settings.drain_timeout + PATIENCE
        await asyncio.gather(*(follower.ended(timeout) for follower in followers))
        await asyncio.gather(*self._tasks)

    def _start_one(self, index: int) -> None:
        assert self._limits is not None  # there are others, so there is what they share
        follower = _Follower(partial(self._lost, index))
        sock = self._take_socket()
        start = Start(self.own_settings, self._relay, index, self.count)
        follower.channel.send(start, [sock.fileno(), self._limits.fd], sock.close)
        follower.channel.send(self._elsewhere())
        self._followers[index] = follower

    def _elsewhere(self) -> Elsewhere:
        """Models without workers of their own: the others relay what they are asked about them."""
        return Elsewhere(sorted({served.name for served in self._published.values() if served.composed is not None}))

    def _lost(self, index: int) -> None:
        task = asyncio.ensure_future(self._bury(index, self._followers.pop(index)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, index: int, follower: _Follower) -> None:
        """Its process ends or is killed; another takes its place, unless all are to stop."""
        status = await follower.reap()
        if self._stopping or self._limits is None:
            return
        log.error("front %d ended with status %s; starting another", index, status)
        self._limits.forget(index)
        self._start_one(index)
        self.on_restart()

    async def _ask(self, order: Callable[[int], Any], timeout: float = PATIENCE) -> list[Answer]:
        """Ask all, and return the answers of those that gave one in time."""
        asked = [follower.ask(order(call), call, timeout) for follower, call in zip(self._all(), self._calls)]  # noqa: B905
        return [answer for answer in await asyncio.gather(*asked) if answer is not None]

    def _all(self) -> list[_Follower]:
        return list(self._followers.values())


class _Follower:
    """One other front: its process and the channel to it."""

    def __init__(self, lost: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "forwardpass.server.fronts.follower", str(theirs.fileno())]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:  # what the whole group is told must not end it, also not before it can say so itself
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._patience = START
        self._waiting: dict[int, asyncio.Future[Answer | None]] = {}
        self._gone = asyncio.Event()
        self._tell = lost
        self.channel = Channel(ours, Answer)
        self.channel.heard = self._heard
        self.channel.closed = self._lost

    async def ask(self, order: Any, call: int, timeout: float) -> Answer | None:
        """The answer, or None where it ends before it has given one; it is killed where it does not in time."""
        if self._gone.is_set():
            return None
        self._waiting[call] = asyncio.get_running_loop().create_future()
        self.channel.send(order)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(timeout, self._patience)):
                return await self._waiting[call]
        log.error("a front (process %d) does not answer; killed", self._process.pid)
        self._process.kill()
        return None

    async def ended(self, timeout: float) -> None:
        """Return once it has ended; it is killed where it does not in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._gone.wait()
        except TimeoutError:
            self._process.kill()

    async def reap(self) -> int:
        """Its exit status, once it has ended; it has closed the channel, so that will not take long."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while (status := self._process.poll()) is None:
            if asyncio.get_running_loop().time() > end:
                self._process.kill()
            await asyncio.sleep(LOOK)
        return status

    def _heard(self, answer: Done | Reported, fds: list[int]) -> None:
        self._patience = PATIENCE
        waiting = self._waiting.pop(answer.call, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _lost(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self._gone.set()
        self._tell()
