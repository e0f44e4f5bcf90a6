"""Requests of one model that go to its queue together.

The library takes in one call per turn of the loop, however many wait outside, so the rule that
holds over HTTP, "what is read in one turn shares a batch", would make batches of one. Here a
request leaves when as many have gathered as left together last time, or after a short wait. Now
and then, where there is company at all, twice as many are waited for, to see whether they come; more
rarely each time that they do not. A caller that sends one request after another never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forwardpass.server.grpc.call import Call

MOST = 16  # more together gains nothing
WAIT = 0.001  # seconds for each that is waited for
LONGEST = 0.005
FIRST_TRY, LAST_TRY = 8, 1024  # departures between two tries for more
Leave = Callable[[Call], None]


class Company:
    """Who of a model's requests is under way, and who waits to leave together: ``goal``, or a short while."""

    def __init__(self) -> None:
        self._under_way = 0
        self._waiting: list[Call] = []
        self.goal = 1
        self._trying = False
        self._next_try = self._pause = FIRST_TRY
        self._timer: asyncio.TimerHandle | None = None

    def join(self, call: Call, leave: Leave) -> None:
        """``leave`` is called with the request, now or soon."""
        call.joined = True
        self._under_way += 1
        self._waiting.append(call)
        if len(self._waiting) >= self.goal:
            self._leave(leave)
        elif self._timer is None:
            wait = min(WAIT * self.goal, LONGEST)
            self._timer = asyncio.get_running_loop().call_later(wait, self._leave, leave)

    def left(self) -> None:
        """One that had joined has its answer."""
        self._under_way -= 1

    def _leave(self, leave: Leave) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        self._aim(len(waiting))
        for call in waiting:
            if not call.done:
                leave(call)

    def _aim(self, came: int) -> None:
        """How many to wait for next, where so many came now."""
        if self._trying:
            self._pause = FIRST_TRY if came >= self.goal else min(2 * self._pause, LAST_TRY)
            self._next_try = self._pause
        self._next_try -= 1
        company = came > 1 or self._under_way > 1
        self._trying = company and came < MOST and self._next_try <= 0
        self.goal = min(2 * came if self._trying else came, MOST)
