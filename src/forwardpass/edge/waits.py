"""How long to wait before trying again: longer each time, and never in step with other devices.

Knows nothing of what is tried.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Iterator

SHORTEST, LONGEST = 0.5, 60.0  # seconds


def waits(shortest: float = SHORTEST, longest: float = LONGEST) -> Iterator[float]:
    """Seconds before each next try, without an end: drawn from a range that doubles up to ``longest``."""
    most = shortest
    while True:
        yield random.uniform(most / 2, most)  # noqa: S311
        most = min(longest, most * 2)


async def pause(over: Awaitable[object], sooner: asyncio.Event) -> None:
    """Until it is over, or ``sooner`` is set."""
    either = [asyncio.ensure_future(over), asyncio.ensure_future(sooner.wait())]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in either:
            waiting.cancel()
