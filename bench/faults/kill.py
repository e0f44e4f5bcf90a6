"""``kill -9`` of a random worker, again and again, under load: who was admitted is answered all the same."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress

from bench.faults import numbers
from bench.faults.fault import Trial, unaccounted, unexplained, why
from bench.faults.figure import Figure
from bench.faults.numbers import right
from bench.faults.watch import workers
from forwardpass.loadtest import Result, closed, opened, run

SHARE = 0.7  # of what both replicas can do
EVERY = 2.0  # seconds between kills
REPLICAS = 2


def measure(trial: Trial) -> list[Figure]:
    model = numbers.build(trial.work / "kill" / "numbers", loops=5)
    seconds, every = trial.lasts(180, 4), 0.7 if trial.quick else EVERY
    with trial.serve(model.folder, "--replicas", str(REPLICAS), name="kill") as server:
        target = numbers.target(server, model.name)
        capacity = run(closed(target, 32, 1 if trial.quick else 5, check=right)).rate

        async def both() -> tuple[Result, int]:
            killing = asyncio.create_task(_kill(server.pid, seconds, every))
            result = await opened(target, SHARE * capacity, seconds, check=right, timeout=45, most_connections=4000)
            return result, await killing

        result, kills = run(both())
    admitted = result.ok + unexplained(result)
    return [
        Figure("workers killed", kills, "", max(1, int(0.7 * seconds / every)), at_least=True),
        Figure("admitted requests without their own answer", unexplained(result), "", 0,
               note=f"{result.ok} of {admitted} admitted answered, {result.refused.count} refused. {why(result)}"),
        Figure("requests that did not end exactly once", unaccounted(result), "", 0),
        Figure("refused", result.refused.count / result.sent, "of all sent", 0.05, timing=True,
               note=f"{SHARE * capacity:.0f}/s offered, p99 {result.latency.percentile(99) * 1e3:.0f} ms"),
    ]  # fmt: skip


async def _kill(front: int, seconds: float, every: float) -> int:
    draw, kills = random.Random(7), 0
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() + every < end:
        await asyncio.sleep(every)
        if alive := workers(front):
            with suppress(ProcessLookupError):
                os.kill(draw.choice(alive), signal.SIGKILL)
                kills += 1
    return kills
