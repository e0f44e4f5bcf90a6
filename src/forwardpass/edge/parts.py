"""Parts of an agent that run beside the predictions: one that ends unforeseen is started again, after a pause.

The outside is each part's own business, and never ends it; this is for what nobody has thought of. Knows no part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from forwardpass.edge.waits import LONGEST, waits
from forwardpass.errors import ForwardpassError

log = logging.getLogger(__name__)


class Service(Protocol):
    """What runs beside the predictions, such as uploads. ``status`` has at least the ``name``."""

    async def run(self) -> None:
        """Until cancelled."""

    async def status(self) -> dict[str, Any]:
        """With ``last_contact`` (seconds since the epoch) where it talks to somebody."""
        ...

    async def close(self) -> None:
        """Keep what is to be kept; after this nothing more comes."""


class Part:
    """What ``begin`` begins. ``pauses`` gives the seconds before each next start, anew after it ran for long."""

    def __init__(
        self, name: str, begin: Callable[[], Awaitable[None]], pauses: Callable[[], Iterator[float]] = waits
    ) -> None:
        self.restarts = 0
        self.problem = ""  # why it ended the last time
        self._name = name
        self._begin = begin
        self._pauses = pauses
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Where it has ended, it is not started again."""
        self._stopped.set()

    async def run(self) -> None:
        """Until it has ended as it should, or this is cancelled."""
        pauses = self._pauses()
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                await self._begin()
                break
            except Exception as error:  # whatever it is: a device goes on
                self.problem = reason(error)
                self.restarts += 1
                log.error("%s ended: %s; it is started again", self._name, self.problem, exc_info=error)
            if time.monotonic() - began > LONGEST:
                pauses = self._pauses()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), next(pauses))

    def told(self) -> dict[str, Any]:
        """For status; nothing where it has never ended."""
        return {"restarts": self.restarts, "ended": self.problem} if self.restarts else {}


def reason(error: BaseException) -> str:
    """What an exception says; of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.message if isinstance(error, ForwardpassError) else repr(error)
