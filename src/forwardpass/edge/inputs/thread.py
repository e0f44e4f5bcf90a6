"""A blocking call in a thread that nobody has to wait for.

``asyncio.to_thread`` is waited for when the program ends, however long the call blocks. Here a
cancelled wait leaves the call behind, and the end of the program takes it along.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(tell: Callable[[], None]) -> None:
        if not done.done():
            tell()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 -- handed to who waits
            tell, value = done.set_exception, error
            _later(loop, lambda: finish(lambda: tell(value)))
        else:
            _later(loop, lambda: finish(lambda: done.set_result(result)))

    threading.Thread(target=run, daemon=True).start()
    return await done


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
