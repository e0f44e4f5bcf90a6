"""Replicas that pass batches on: none is lost, whenever those that wait for an answer leave."""

from __future__ import annotations

import asyncio

import pytest
from tests.gateway.house import Awaited, answers, rows, run

from forwardpass.config import Limits
from forwardpass.errors import Cancelled
from forwardpass.gateway.passing import Answered, PassingReplicas
from forwardpass.scheduler import Batch, Scheduler
from forwardpass.server.served import clock


@pytest.mark.parametrize("begun", [False, True], ids=["before its batch has begun", "while its batch is elsewhere"])
def test_a_client_that_leaves_takes_no_replica_along(begun: bool) -> None:
    started = asyncio.Event()

    async def answer(batch: Batch) -> Answered:
        started.set()
        if batch.rows == 1:
            await asyncio.sleep(600.0)
        return answers(1)(batch.stack()), {}

    async def main() -> None:
        replicas = PassingReplicas(1, answer)
        scheduler = Scheduler(Limits(timeout=20.0), False, clock, asyncio.get_running_loop())
        replicas.attach(scheduler)
        left, stays = Awaited(rows(0.5), 20.0), Awaited(rows(0.5, 0.5), 20.0)
        scheduler.submit(left)
        await asyncio.sleep(0)  # the batch is handed over, and its task comes in the next turn of the loop
        assert not started.is_set()
        if begun:
            await started.wait()
        scheduler.cancel(left)
        replicas._watch()  # as the timer does, which may be due in any turn
        with pytest.raises(Cancelled):
            await left.future
        scheduler.submit(stays)
        async with asyncio.timeout(20.0):
            assert (await stays.future)["who"].tolist() == [1, 11]
        await replicas.stop()

    run(main)
