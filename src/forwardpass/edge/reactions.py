"""What a device does with predictions once they are answered: one after the other, behind the answers.

``note`` costs a prediction nothing but a place in a queue that is bounded in number and in bytes; what
does not fit drops the oldest, and is counted. Whoever follows predictions (rules, outputs, the outbox) is handed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from forwardpass.edge.prediction import Prediction

log = logging.getLogger(__name__)

MOST = 1024  # predictions that wait
MOST_BYTES = 32 * 1024 * 1024  # of their rows and answers, about
Make = Callable[[], Prediction]
Follower = Callable[[Prediction], Awaitable[None]]


class Reactions:
    """Hands every prediction to all followers, in the order of the answers."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.dropped = 0  # predictions that nobody was told of
        self.failed = 0  # times that a follower could not take one
        self._most = most
        self._most_bytes = most_bytes
        self._followers: list[Follower] = []
        self._waiting: deque[tuple[Make, int]] = deque()
        self._bytes = 0
        self._something = asyncio.Event()
        self._busy = False

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._busy

    def follow(self, follower: Follower) -> None:
        """Tell it of every prediction from now on. It should only put it in a queue of its own."""
        self._followers.append(follower)

    def note(self, make: Make, nbytes: int) -> None:
        """A prediction was answered that holds about ``nbytes``; it is made later, and only where somebody follows."""
        if not self._followers:
            return
        self._waiting.append((make, nbytes))
        self._bytes += nbytes
        while len(self._waiting) > self._most or (self._bytes > self._most_bytes and len(self._waiting) > 1):
            self._next()
            self.dropped += 1
        self._something.set()

    def _next(self) -> Make:
        make, nbytes = self._waiting.popleft()
        self._bytes -= nbytes
        return make

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._something.wait()
            while self._waiting:
                self._busy = True
                await self._tell(self._next())
                self._busy = False
                await asyncio.sleep(0)  # answers go first
            self._something.clear()

    async def flush(self) -> None:
        """Returns when all followers know of all predictions. While ``run`` runs."""
        while self.waiting:
            await asyncio.sleep(0.005)

    async def _tell(self, make: Make) -> None:
        try:
            prediction = make()
        except Exception:
            log.exception("a prediction could not be followed up")
            self.failed += 1
            return
        for follower in self._followers:
            try:
                await follower(prediction)
            except Exception:
                log.exception("a prediction could not be followed up")
                self.failed += 1
