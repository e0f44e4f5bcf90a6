"""Runs a measurement to its end on an event loop of its own (uvloop, where it is there)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(measurement: Coroutine[Any, Any, T]) -> T:
    """The result of ``closed(…)``, ``opened(…)`` or of a coroutine that awaits several of them."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(measurement)


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every system
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
