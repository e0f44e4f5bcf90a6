"""The open loop: requests at a rate that was planned before, whatever the server does meanwhile.

Latency counts from the time that was planned, so a stall is felt by every request that was due
while it lasted ("coordinated omission" cannot hide it). Connections grow as they are needed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from time import perf_counter as clock

from forwardpass.loadtest.alarm import create_alarm
from forwardpass.loadtest.arrivals import Arrivals, plan
from forwardpass.loadtest.driver import Driver, Leave
from forwardpass.loadtest.meter import Check, Meter
from forwardpass.loadtest.result import Result
from forwardpass.loadtest.target import Connection, Target

AT_ONCE = 64  # requests sent in a row before answers are looked at
FRESH = 0.05  # seconds; a connection last used before that is looked at before it is used again


async def opened(
    target: Target,
    rate: float,
    seconds: float,
    *,
    arrivals: Arrivals = Arrivals.POISSON,
    connections: int = 8,
    most_connections: int = 1024,
    timeout: float = 30.0,
    check: Check | None = None,
    leave: Leave | None = None,
    seed: int = 0,
) -> Result:
    """Send ``rate`` requests per second for ``seconds``, then await what is under way.

    Begins with ``connections`` open and opens more, up to ``most_connections``, where all are busy;
    beyond that requests wait here, and their latency with them. The other parameters are those of
    ``closed``. Raises ``InvalidInput`` for a rate that is none, ``OSError`` where the server cannot
    be reached at the start.
    """
    offsets = plan(rate, seconds, arrivals, seed)
    result = Result(target.door, seconds, 0, planned_rate=rate)
    driver = _Opened(target, Meter(result, check), timeout, leave, offsets.tolist(), most_connections)
    await driver.drive(seconds, min(connections, most_connections))
    return result


class _Opened(Driver):
    def __init__(
        self,
        target: Target,
        meter: Meter,
        timeout: float,
        leave: Leave | None,
        offsets: Sequence[float],
        most: int,
    ) -> None:
        super().__init__(target, meter, timeout, leave)
        self._offsets = offsets
        self._most = most
        self._next = 0
        self._free: list[Connection] = []
        self._waiting: deque[float] = deque()  # planned times of requests with no connection yet
        self._alarm = create_alarm(asyncio.get_running_loop(), self._due)

    def begin(self) -> None:
        self._free = list(self.connections)
        self.meter.result.connections = len(self._free)
        self._due()

    def idle(self, connection: Connection, now: float) -> None:
        if self._waiting:
            self.send(connection, self._waiting.popleft(), now)
        else:
            self._free.append(connection)

    def drop(self, connection: Connection) -> None:
        if connection in self._free:
            self._free.remove(connection)
        super().drop(connection)

    def wanted(self, now: float) -> bool:
        return len(self._waiting) > self.opening and len(self.connections) + self.opening < self._most

    def over(self) -> bool:
        busy = len(self.connections) - len(self._free)
        return self._next == len(self._offsets) and not (self._waiting or self.opening or busy)

    async def close(self) -> None:
        self._alarm.close()
        await super().close()

    def _due(self) -> None:
        """Send what is due, then sleep until the next."""
        offsets, now = self._offsets, clock()
        stop = min(len(offsets), self._next + AT_ONCE)
        while self._next < stop and self.start + offsets[self._next] <= now:
            self._dispatch(self.start + offsets[self._next], now)
            self._next += 1
            now = clock()
        if self._next < len(offsets):
            self._alarm.set(max(0.0, self.start + offsets[self._next] - now))

    def _dispatch(self, planned: float, now: float) -> None:
        self.meter.result.late.add(now - planned)
        while self._free:
            connection = self._free.pop()
            if now - connection.sent < FRESH or connection.alive():
                self.send(connection, planned, now)
                return
            super().drop(connection)
        self._waiting.append(planned)
        self.meter.result.waited += 1
        self.reopen(now)

    def sweep(self, now: float) -> None:
        """Give up as well what waited for a connection until its time was over."""
        super().sweep(now)
        while self._waiting and now >= self._waiting[0] + self.timeout:
            self._waiting.popleft()
            self.meter.failed("timeout", now)

    async def _connect(self) -> Connection:
        connection = await super()._connect()
        self.meter.result.connections = max(self.meter.result.connections, len(self.connections))
        return connection
