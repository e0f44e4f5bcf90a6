"""Real worker processes for tests: a template, replicas of one model, and requests to await.

Knows processes by ``/proc``; tests that look there skip where there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from textwrap import dedent
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import uvloop
from tests import artifacts

from forwardpass.config import Limits
from forwardpass.engine.messages import FailedHead, ReadyHead
from forwardpass.engine.nursery import Nursery
from forwardpass.engine.replicas import Replicas
from forwardpass.engine.starter import Starter
from forwardpass.errors import ForwardpassError
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Request, Scheduler
from forwardpass.types import Columns

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not PROC.is_dir(), reason="looks at processes in /proc, which is not here")
KILLER, HANGS, REFUSED = 666.0, 777.0, 888.0

FATE = f"""
    import os, time
    from forwardpass.errors import InvalidInput
    from forwardpass.pipeline import step

    class OwnError(InvalidInput):
        pass

    @step(reads=["x"], writes=["x"])
    def fate(columns):
        x = columns["x"]
        if (x == {KILLER}).any():
            os._exit(1)
        if (x == {HANGS}).any():
            time.sleep(600)
        if (x == {REFUSED}).any():
            raise OwnError("refused")
        return {{"x": x}}
"""


def fateful_model(folder: Path) -> Path:
    """``y = x`` of two numbers, with values that stop, hang or kill the worker."""
    folder.mkdir(parents=True, exist_ok=True)
    artifacts.identity(folder / "model.onnx")
    (folder / "steps.py").write_text(dedent(FATE), encoding="utf-8")
    (folder / "model.yaml").write_text("preprocess: [{step: fate}]\n", encoding="utf-8")
    return folder


class Awaited(Request):
    """A request of one row or several of the same value, whose end can be awaited."""

    def __init__(self, columns: Columns, timeout: float) -> None:
        self.arrived = perf_counter()
        self.deadline = self.arrived + timeout
        self.columns = columns
        self.rows = len(next(iter(columns.values())))
        self.future: asyncio.Future[Columns] = asyncio.get_running_loop().create_future()

    def succeed(self, outputs: Columns) -> None:
        self.future.set_result(outputs)

    def fail(self, error: ForwardpassError) -> None:
        self.future.set_exception(error)


class Fleet:
    """Replicas of one model with their scheduler."""

    def __init__(self, starter: Starter, path: Path, count: int, limits: Limits) -> None:
        self.limits = limits
        self.failed: list[FailedHead] = []
        self.observed: list[Request] = []
        location = ModelLocation(path.stem, "1", path)
        self.replicas = Replicas(starter, location, count, 1, self._on_ready, self.failed.append)

    def _on_ready(self, ready: ReadyHead) -> Scheduler:
        loop = asyncio.get_running_loop()
        self.scheduler = Scheduler(self.limits, ready.signature.batched, perf_counter, loop, self.observed.extend)
        return self.scheduler

    async def until_ready(self, count: int | None = None) -> None:
        wanted = self.replicas.count if count is None else count
        await until(lambda: self.replicas.ready >= wanted)

    def submit(self, *values: float, timeout: float = 20.0) -> Awaited:
        request = Awaited({"x": np.array([[value, value] for value in values], np.float32)}, timeout)
        self.scheduler.submit(request)
        return request

    async def ask(self, value: float, timeout: float = 20.0) -> float:
        outputs = await self.submit(value, timeout=timeout).future
        return float(outputs["y"][0, 0])


@contextlib.asynccontextmanager
async def fleet(starter: Starter, path: Path, count: int = 1, limits: Limits | None = None) -> AsyncIterator[Fleet]:
    """Replicas of the model at a path, started; stopped for sure."""
    made = Fleet(starter, path, count, limits or Limits())
    made.replicas.start()
    try:
        yield made
    finally:
        await made.replicas.stop()


def run(starter: Starter, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on the server's kind of loop; what a callback raises fails the test."""
    wrong: list[dict[str, Any]] = []

    async def inside() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: wrong.append(context))
        starter.listen(loop)
        await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(inside())
    assert wrong == []


def close(nursery: Nursery) -> None:
    """Let a template go whose last loop is closed."""

    async def inside() -> None:
        nursery.listen(asyncio.get_running_loop())
        nursery.close()

    asyncio.run(inside())


async def until(true: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait until something is true; fails after ``timeout`` seconds."""
    end = perf_counter() + timeout
    while not true():
        assert perf_counter() < end, "waited too long"
        await asyncio.sleep(0.005)


# Processes


def children(pid: int) -> list[int]:
    """Processes whose parent is this one, zombies as well."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int(stat(int(entry.name))[1]) == pid:
                    found.append(int(entry.name))
    return found


def stat(pid: int) -> Sequence[str]:
    """The fields of ``/proc/PID/stat`` from the state on; raises ``OSError`` where it is gone."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return stat(pid)[0] != "Z"
    except OSError:
        return False


def cpu_ticks(pid: int) -> int:
    """CPU time used, in clock ticks (usually 10 ms each)."""
    fields = stat(pid)
    return int(fields[11]) + int(fields[12])


def templates() -> list[int]:
    """Template processes of this test process."""
    return [pid for pid in children(os.getpid()) if b"engine.template" in (PROC / str(pid) / "cmdline").read_bytes()]


def open_files() -> int:
    return len(list((PROC / "self" / "fd").iterdir()))
