"""The closed loop: so many callers, each of whom sends when the one before is answered.

It finds what a server can do, and what it does to a few polite callers. It cannot find how long
callers wait who do not hold back: while the server stalls, nobody asks.
"""

from __future__ import annotations

from forwardpass.loadtest.driver import Driver, Leave
from forwardpass.loadtest.meter import Check, Meter
from forwardpass.loadtest.result import Result
from forwardpass.loadtest.target import Connection, Target


async def closed(
    target: Target,
    connections: int,
    seconds: float,
    *,
    timeout: float = 30.0,
    check: Check | None = None,
    leave: Leave | None = None,
) -> Result:
    """Send for ``seconds`` over ``connections``, then await what is under way.

    ``timeout`` is seconds after which a request is given up, as an error. ``check`` looks at every
    good answer. ``leave`` makes some clients go before their answer. Raises ``OSError`` where the
    server cannot be reached at the start.
    """
    result = Result(target.door, seconds, connections)
    await _Closed(target, Meter(result, check), timeout, leave).drive(seconds, connections)
    return result


class _Closed(Driver):
    def idle(self, connection: Connection, now: float) -> None:
        if now < self.end:
            self.send(connection, now, now)
        else:
            self.drop(connection)

    def wanted(self, now: float) -> bool:
        return now < self.end

    def over(self) -> bool:
        return not self.connections and not self.opening
