"""What a device does with predictions once they are answered: one after the other, behind the answers.

``note`` costs a prediction nothing but a place in a bounded queue; what does not fit drops the
oldest, and is counted. Whoever follows predictions (rules, outputs, the outbox) is handed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from forwardpass.edge.prediction import Prediction

log = logging.getLogger(__name__)

MOST = 1024  # predictions that wait
Follower = Callable[[Prediction], Awaitable[None]]


class Reactions:
    """Hands every prediction to all followers, in the order of the answers."""

    def __init__(self, most: int = MOST) -> None:
        self.dropped = 0  # predictions that nobody was told of
        self.failed = 0  # times that a follower could not take one
        self._most = most
        self._followers: list[Follower] = []
        self._waiting: deque[Callable[[], Prediction]] = deque()
        self._something = asyncio.Event()
        self._busy = False

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._busy

    def follow(self, follower: Follower) -> None:
        """Tell it of every prediction from now on. It should only put it in a queue of its own."""
        self._followers.append(follower)

    def note(self, make: Callable[[], Prediction]) -> None:
        """A prediction was answered; what it was is made later, and only where somebody follows."""
        if not self._followers:
            return
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(make)
        self._something.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._something.wait()
            while self._waiting:
                self._busy = True
                await self._tell(self._waiting.popleft())
                self._busy = False
                await asyncio.sleep(0)  # answers go first
            self._something.clear()

    async def flush(self) -> None:
        """Returns when all followers know of all predictions. While ``run`` runs."""
        while self.waiting:
            await asyncio.sleep(0.005)

    async def _tell(self, make: Callable[[], Prediction]) -> None:
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
