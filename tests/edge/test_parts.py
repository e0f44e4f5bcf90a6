"""Parts of an agent that end unforeseen: alone, and in the agent's own process."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.edge import breaking
from tests.edge.devices import START, AgentProcess, Factory, agent, write_settings
from tests.engine.workers import fateful_model, needs_proc

from forwardpass.edge.home import Home
from forwardpass.edge.parts import Part, reason
from forwardpass.errors import NotReady

PROGRAM = (sys.executable, breaking.__file__, "agent")


class Fails:
    """Raises so many times, then ends as it should."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def run(self) -> None:
        self.times -= 1
        if self.times >= 0:
            raise ValueError(f"{self.times} more")


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, START))


def test_a_part_is_started_again_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    part = Part("a part", Fails(3).run, lambda: itertools.repeat(0.001))
    assert part.told() == {}
    with caplog.at_level(logging.CRITICAL):
        run(part.run())
    assert part.told() == {"restarts": 3, "ended": "ValueError('0 more')"}


def test_each_pause_is_the_next_one() -> None:
    drawn: list[float] = []

    def pauses() -> Iterator[float]:
        for pause in (0.001, 0.002, 0.003):
            drawn.append(pause)
            yield pause

    run(Part("a part", Fails(3).run, pauses).run())
    assert drawn == [0.001, 0.002, 0.003]


def test_a_part_that_waits_for_its_next_start_can_be_stopped() -> None:
    async def test() -> None:
        part = Part("a part", Fails(1).run, lambda: itertools.repeat(10 * START))
        task = asyncio.create_task(part.run())
        while not part.restarts:
            await asyncio.sleep(0)
        part.stop()
        await task

    run(test())


def test_the_reason_is_what_was_raised_and_not_what_it_came_in() -> None:
    assert reason(ExceptionGroup("", [ExceptionGroup("", [NotReady("the disk is full")])])) == "the disk is full"


# In the agent


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(tmp_path_factory.mktemp("factory"))


@contextmanager
def broken_agent(folder: Path, factory: Factory, what: str, **more: Any) -> Iterator[AgentProcess]:
    home = Home(folder / "home")
    write_settings(home, {"inputs": [{"type": "breaking"}]} if what == "input" else {})
    bundle = factory.bundle(fateful_model(factory.folder / "fateful"))
    words = ("--bundle", str(bundle), "--trust", str(factory.trust))
    environment = {**os.environ, "BREAKS": what, **more}
    with agent(home, *words, wait=False, env=environment, program=PROGRAM) as device:
        yield device


@needs_proc
def test_an_input_that_raises_is_started_again(tmp_path: Path, factory: Factory) -> None:
    with broken_agent(tmp_path, factory, "input") as device:
        status = device.until(lambda status: any(item["counts"]["answered"] for item in status["inputs"]))
        (told,) = status["inputs"]
        assert (told["restarts"], told["ended"]) == (2, "ZeroDivisionError('time 2')")
        device.process.send_signal(signal.SIGTERM)
        assert device.process.wait(START) == 0


@needs_proc
def test_without_a_sign_of_life_the_agent_ends_to_be_started_again(tmp_path: Path, factory: Factory) -> None:
    systemd = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1000000"}
    with broken_agent(tmp_path, factory, "sign of life", **systemd) as device:
        assert device.process.wait(START) == 1
        assert "the agent cannot go on: ZeroDivisionError('no sign of life')" in device.log.read_text()
