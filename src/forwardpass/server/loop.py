"""The event loop of a front, and what makes it quick: how it is run, and what its collector leaves alone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import numpy as np


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    np.seterr(over="raise")  # a number that does not fit its tensor's type is an error, not infinity
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(main)


def freeze() -> None:
    """What is loaded stays: the collector need not look at it again, and need not look often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()
