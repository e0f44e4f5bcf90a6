"""Alarms ring once, when they should, on this system and on any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from forwardpass.loadtest import run
from forwardpass.loadtest.alarm import Alarm, LoopTimer, create_alarm

Create = Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Alarm]


@pytest.mark.parametrize("create", [create_alarm, LoopTimer])
def test_it_rings_once_and_not_after_it_is_closed(create: Create) -> None:
    assert run(_rings(create)) == 1


async def _rings(create: Create) -> int:
    rung: list[float] = []
    alarm = create(asyncio.get_running_loop(), lambda: rung.append(time.perf_counter()))
    alarm.set(5.0)
    started = time.perf_counter()
    alarm.set(0.02)
    await asyncio.sleep(0.1)
    assert rung[0] - started >= 0.018
    alarm.set(0.0)
    alarm.close()
    await asyncio.sleep(0.02)
    alarm.close()
    return len(rung)
