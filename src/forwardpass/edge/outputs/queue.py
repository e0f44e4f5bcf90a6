"""The queue before every output: bounded, the oldest message dropped first, delivered by one task.

What cannot be delivered now is tried again, waiting longer each time, while newer messages wait
behind it; so they arrive in order, at least once. A message whose end somebody waits for goes before
those, and is not dropped for them. Knows no way of delivering.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from forwardpass.edge.outputs.base import Sender, Undelivered
from forwardpass.edge.waits import waits
from forwardpass.errors import NotReady

log = logging.getLogger("forwardpass.edge")
MAX_WAITING = 1000  # messages
Awaited = tuple[dict[str, Any], asyncio.Future[None]]  # a message, and its end


class Queue:
    """An ``Output`` around a ``Sender``. ``pauses`` gives the seconds before each next try."""

    def __init__(
        self,
        name: str,
        sender: Sender,
        max_waiting: int = MAX_WAITING,
        pauses: Callable[[], Iterator[float]] = waits,
    ) -> None:
        self.name = name
        self.counts = {"sent": 0, "failed": 0, "dropped": 0}
        self.problem = ""
        self._sender = sender
        self._max_waiting = max_waiting
        self._pauses = pauses
        self._waiting: deque[dict[str, Any]] = deque()
        self._awaited: list[Awaited] = []
        self._under_way = 0  # of those that nobody waits for
        self._some = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._awaited) + len(self._waiting) + self._under_way

    async def send(self, message: dict[str, Any]) -> None:
        if self._closing:
            self.counts["dropped"] += 1
            return
        self._waiting.append(message)
        if len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self.counts["dropped"] += 1
        self._begin()

    async def deliver(self, message: dict[str, Any]) -> None:
        if self._closing:
            raise self._ends()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        item = (message, ended)
        self._awaited.append(item)
        self._begin()
        try:
            await ended
        finally:
            self._awaited.remove(item)

    async def close(self, within: float = 5.0) -> None:
        self._closing = True
        self._some.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=within)
            self._task.cancel()
            await asyncio.wait([self._task])
        dropped = len(self._waiting) + self._under_way
        if dropped:
            log.warning("output %s ends: %d undelivered", self.name, dropped)
        self.counts["dropped"] += dropped
        self._waiting.clear()
        self._under_way = 0
        for _, ended in self._awaited:
            if not ended.done():
                ended.set_exception(self._ends())
        await self._sender.close()

    def _begin(self) -> None:
        self._some.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=f"output {self.name}")

    async def _work(self) -> None:
        async for message, ended in self._messages():
            await self._deliver(message, ended)
            self._under_way = 0
            if ended is not None and not ended.done():
                ended.set_result(None)

    async def _messages(self) -> AsyncIterator[Awaited | tuple[dict[str, Any], None]]:
        while True:
            while item := self._next():
                yield item
            if self._closing:
                return
            self._some.clear()
            await self._some.wait()

    def _next(self) -> Awaited | tuple[dict[str, Any], None] | None:
        for item in self._awaited:
            if not item[1].done():
                return item
        if not self._waiting:
            return None
        self._under_way = 1
        return self._waiting.popleft(), None

    async def _deliver(self, message: dict[str, Any], ended: asyncio.Future[None] | None) -> None:
        """Try until it is there, or is refused, or who waited for its end does so no more."""
        for pause in self._pauses():
            if ended is not None and ended.done():
                return
            try:
                await self._sender.deliver(message)
            except Undelivered as error:
                self._note(error)
                if not error.again:
                    self.counts["failed"] += 1
                    return
                await asyncio.sleep(pause)
            except Exception as error:  # nobody foresaw it: the next message goes
                log.exception("output %s: a message could not be sent", self.name)
                self.problem = repr(error)
                self.counts["failed"] += 1
                return
            else:
                self.counts["sent"] += 1
                if self.problem:
                    log.info("output %s: goes on", self.name)
                self.problem = ""
                return

    def _note(self, error: Undelivered) -> None:
        if not self.problem:
            log.warning("output %s: %s%s", self.name, error, "; trying again" if error.again else "; it is lost")
        self.problem = str(error)

    def _ends(self) -> NotReady:
        return NotReady(f"output {self.name} ends, and has not delivered it")
