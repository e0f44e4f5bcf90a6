"""What both loops share: connections that come and go, requests that take too long or are left.

A loop says what a free connection does next (``idle``) and when it is over (``over``). Every
request that is sent ends once in the meter: answered, broken, timed out or left.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from time import perf_counter as clock

from forwardpass.errors import InvalidInput
from forwardpass.loadtest.meter import Meter
from forwardpass.loadtest.target import Connection, Target

SWEEP = 0.05  # seconds between looks for requests that take too long
BACK_OFF = 0.02  # seconds after a connection that failed


@dataclass(frozen=True)
class Leave:
    """Clients that give up: ``share`` of the requests are left ``after`` seconds, without an answer."""

    share: float
    after: float
    seed: int = 0


class Driver(ABC):
    """Sends requests of a target over connections, and hears their answers."""

    def __init__(self, target: Target, meter: Meter, timeout: float, leave: Leave | None) -> None:
        if not target.requests:
            raise InvalidInput("there is no request to send; a target needs at least one")
        self.target = target
        self.meter = meter
        self.timeout = timeout
        self.start = self.end = 0.0
        self.connections: set[Connection] = set()
        self.opening = 0
        self._leave = leave
        self._draw = random.Random(leave.seed if leave else 0)  # noqa: S311 - who leaves, not a secret
        self._indices = target.indices()
        self._requests = target.requests
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def idle(self, connection: Connection, now: float) -> None:
        """A connection is free: use it, keep it or drop it."""

    @abstractmethod
    def wanted(self, now: float) -> bool:
        """Whether a new connection has work."""

    @abstractmethod
    def over(self) -> bool:
        """Whether nothing more will be sent and all that was sent has ended."""

    async def drive(self, seconds: float, connections: int) -> None:
        """Open ``connections``, begin, and return when all is over."""
        pause = min(SWEEP, self._leave.after / 4) if self._leave else SWEEP
        try:
            for _ in range(connections):
                await self._connect()
            self.start = self.meter.started = clock()
            self.end = self.start + seconds
            self.begin()
            while not self.over():
                await asyncio.sleep(max(0.001, pause))
                self.sweep(clock())
        finally:
            await self.close()

    def begin(self) -> None:
        """The clock runs: every connection that is open may be used."""
        for connection in list(self.connections):
            self.idle(connection, self.start)

    def send(self, connection: Connection, planned: float, now: float) -> None:
        """The next request, planned for then and sent now."""
        index = next(self._indices)
        request = self._requests[index]
        connection.index, connection.planned, connection.sent = index, planned, now
        connection.leave_at, connection.leaves = planned + self.timeout, False
        if self._leave is not None and self._draw.random() < self._leave.share:
            connection.leave_at, connection.leaves = now + self._leave.after, True
        result = self.meter.result
        result.sent += 1
        if type(request) is bytes:
            result.bytes_sent += len(request)
        connection.send(request)

    # What connections tell

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        now = clock()
        self.meter.answered(connection, status, head, body, now)
        if connection.closing:
            self.drop(connection)
            self.reopen(now)
        else:
            self.idle(connection, now)

    def broken(self, connection: Connection, kind: str) -> None:
        now = clock()
        self.meter.failed(kind, now)
        self.drop(connection)
        self.reopen(now)

    def lost(self, connection: Connection) -> None:
        self.drop(connection)
        self.reopen(clock())

    # Connections

    def drop(self, connection: Connection) -> None:
        """Be done with a connection."""
        self.connections.discard(connection)
        if not connection.left:
            connection.close()

    def reopen(self, now: float) -> None:
        """Open a connection beside, where there is work for it."""
        if self.start and self.wanted(now):
            self.opening += 1
            task = asyncio.ensure_future(self._reopen())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reopen(self) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self.meter.failed("cannot connect", clock())
            await asyncio.sleep(BACK_OFF)
            connection = None
        finally:
            self.opening -= 1
        if connection is None:
            self.reopen(clock())
        elif not connection.left:
            self.idle(connection, clock())

    async def _connect(self) -> Connection:
        connection = await self.target.connect(self)
        self.connections.add(connection)
        return connection

    def sweep(self, now: float) -> None:
        """Give up what takes too long, and what is to be left."""
        for connection in [item for item in self.connections if item.busy and now >= item.leave_at]:
            if connection.leaves:
                self.meter.result.left += 1
            else:
                self.meter.failed("timeout", now)
            connection.leave_at = inf
            self.drop(connection)
            self.reopen(now)

    async def close(self) -> None:
        """Leave all connections, and stop opening more."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.connections):
            self.drop(connection)
        await self.target.close()
        await asyncio.sleep(0)
