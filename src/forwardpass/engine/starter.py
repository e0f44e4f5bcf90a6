"""What starts worker processes, as whoever keeps replicas running sees it.

Two there are: ``nursery`` forks them from a warm template in milliseconds, ``spawn`` starts an
interpreter for each and keeps no memory besides. Knows no messages and no schedulers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from forwardpass.engine.link import Link
from forwardpass.registry import ModelLocation


@dataclass(frozen=True, slots=True)
class Born:
    """A worker that was started: its process, and one link for each front."""

    pid: int
    links: list[Link]


class Starter(Protocol):
    """Starts workers, and says when they have ended."""

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear of workers that end on this loop, from now on."""

    async def fork(
        self,
        model: ModelLocation,
        threads: int,
        on_end: Callable[[int], None],
        *,
        measures: bool = False,
        fronts: int = 1,
    ) -> Born:
        """A new worker that loads the model. ``on_end`` is told its exit status (minus the signal).

        ``measures``: while nothing is asked of it, it says what batches take. ``fronts`` is the
        number of links to make. Raises ``NotReady`` where none can be started now.
        """
        ...

    def close(self) -> None:
        """Start no more, once all workers have ended or are about to."""
