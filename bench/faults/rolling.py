"""Rolling restarts: a new process starts on the port of the old one, the old one gets SIGTERM, under load.

Some clients keep their connections and are busy, some keep them and are mostly idle, some open one
for each request. None of them may notice.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests import artifacts

from bench.faults import numbers
from bench.faults.fault import PROGRAM, Trial, unaccounted, unexplained, why
from bench.faults.figure import Figure
from bench.processes import Server, StartFailed, free_port, pinned
from forwardpass.loadtest import Arrivals, Result, closed, opened, run

FLAG = "--reuse-port"
RATE = 150.0  # requests per second of each kind of client in the open loop
IDLE = 64  # kept connections beyond those that are needed
BETWEEN = 4.0  # seconds from one restart to the next
DRAIN = 20.0  # seconds in which the old process must have ended


class Rolling:
    """Processes one after the other on one port; ``statuses`` are the exit statuses of those that ended."""

    def __init__(self, trial: Trial, folder: Path, stack: ExitStack) -> None:
        self.port = free_port()
        self.statuses: list[int | None] = []
        self._started = 0
        self._trial, self._folder, self._stack = trial, folder, stack
        self._current = self._start()

    def restart(self) -> None:
        """Start the next, wait until it is ready, end the one before."""
        before, self._current = self._current, self._start()
        before.terminate()
        try:
            self.statuses.append(before.wait(DRAIN))
        except subprocess.TimeoutExpired:
            self.statuses.append(None)

    def _start(self) -> subprocess.Popen[str]:
        log = self._trial.work / "logs" / f"rolling-{self._started}.log"
        self._started += 1
        log.parent.mkdir(parents=True, exist_ok=True)
        cores = ["--cores", str(len(self._trial.server))]
        command = [PROGRAM, "serve", str(self._folder), "--port", str(self.port), "--no-grpc", FLAG, *cores]
        output = self._stack.enter_context(log.open("w"))
        pipes = {"stdout": output.fileno(), "stderr": output.fileno()}
        process = self._stack.enter_context(pinned(command, self._trial.server, {}, **pipes))
        end = time.monotonic() + 30
        while f":{self.port}" not in log.read_text():  # it greets once it is ready
            if process.poll() is not None or time.monotonic() > end:
                raise StartFailed(f"exit status {process.poll()}: {log.read_text()[-300:].strip()}")
            time.sleep(0.01)
        return process


def measure(trial: Trial) -> list[Figure]:
    what = "failed requests"
    if FLAG not in subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, text=True, check=True).stdout:
        return [Figure(what, None, "", 0, note=f"`serve` has no {FLAG}")]
    folder = trial.work / "rolling" / "steady"
    artifacts.identity(folder / "model.onnx", shape=("N", 1))
    with ExitStack() as stack:
        rolling = Rolling(trial, folder, stack)
        results = run(_load(trial, rolling))
    restarts = len(rolling.statuses)
    return [
        Figure("restarts", restarts, "", 1 if trial.quick else 5, at_least=True),
        *(Figure(f"{what}, {kind}", unexplained(result) + unaccounted(result) + result.refused.count, "", 0,
                 note=f"{result.ok} answered. {why(result)}") for kind, result in results.items()),
        Figure("processes that did not end with 0", sum(status != 0 for status in rolling.statuses), "", 0),
    ]  # fmt: skip


async def _load(trial: Trial, rolling: Rolling) -> dict[str, Result]:
    seconds = trial.lasts(90, 6)
    server = Server(rolling.port, 0, 0.0)
    kept, new = (numbers.target(server, "steady", close=close) for close in (False, True))
    idle = replace(kept, seed=1)
    check = partial(opened, check=numbers.right)
    restarting = asyncio.create_task(_restart(rolling, seconds - 1, 1.0 if trial.quick else BETWEEN))
    results = await asyncio.gather(
        closed(kept, 4, seconds, check=numbers.right),
        check(idle, RATE / 5, seconds, connections=IDLE, arrivals=Arrivals.POISSON),
        check(new, RATE, seconds),
    )
    await restarting
    return dict(
        zip(("connections kept and busy", "kept and mostly idle", "new for each request"), results, strict=True)
    )


async def _restart(rolling: Rolling, seconds: float, between: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() + between < end:
        await asyncio.sleep(between)
        await asyncio.to_thread(rolling.restart)
