"""Replicas that pass their batch on to somebody else and wait: what a composed model has instead of workers.

Each batch is a task. Once nobody waits for any of its requests, the task is cancelled, so that what it asked for
elsewhere is given up too. Knows the scheduler, not who is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

from forwardpass.errors import BackendFailed, Cancelled, ForwardpassError
from forwardpass.scheduler import Batch, Reply, Scheduler
from forwardpass.types import Columns, StageTimes

log = logging.getLogger(__name__)

LOOK = 0.02  # seconds between looks at whether anybody still waits
Answered = tuple[Columns, Mapping[int, ForwardpassError]]  # outputs of the requests that succeeded, why others failed


class PassingReplica:
    """Takes one batch at a time."""

    def __init__(self, begin: Callable[[PassingReplica, Batch], None]) -> None:
        self._begin = begin

    def run(self, batch: Batch) -> None:
        self._begin(self, batch)


class PassingReplicas:
    """``count`` of them. ``answer`` is asked for each batch; a ``ForwardpassError`` of it fails all its requests."""

    def __init__(self, count: int, answer: Callable[[Batch], Awaitable[Answered]]) -> None:
        self.count = count
        self._answer = answer
        self._replicas: list[PassingReplica] = []
        self._scheduler: Scheduler | None = None
        self._running: dict[asyncio.Task[None], Batch] = {}
        self._watching = False

    @property
    def ready(self) -> int:
        return len(self._replicas)

    def attach(self, scheduler: Scheduler) -> None:
        """From now on batches are taken from this queue."""
        self._scheduler = scheduler
        for _ in range(self.count):
            replica = PassingReplica(self._begin)
            self._replicas.append(replica)
            scheduler.attach(replica)

    async def stop(self) -> None:
        """Take no more batches, and give up those that run; their requests are the scheduler's."""
        replicas, self._replicas = self._replicas, []
        for replica in replicas:
            if self._scheduler is not None:
                self._scheduler.detach(replica)
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, replica: PassingReplica, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(replica, batch))
        self._running[task] = batch
        task.add_done_callback(self._running.pop)
        if not self._watching:
            self._watching = True
            loop.call_later(LOOK, self._watch)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        for task, batch in self._running.items():
            if all(request.done for request in batch.requests):
                loop.call_soon(task.cancel)  # not at once: a task that has not begun would tell nobody that it ended
        self._watching = bool(self._running)
        if self._watching:
            loop.call_later(LOOK, self._watch)

    async def _run(self, replica: PassingReplica, batch: Batch) -> None:
        started = perf_counter()
        outputs: Columns = {}
        failures: Mapping[int, ForwardpassError]
        try:
            outputs, failures = await self._answer(batch)
        except asyncio.CancelledError:
            failures = _all(batch, Cancelled("nobody waits for it any more"))
        except ForwardpassError as error:
            failures = _all(batch, error)
        except Exception:  # the batch loop: whatever fails, its requests are answered
            log.exception("a batch could not be passed on")
            failures = _all(batch, BackendFailed("the request could not be passed on; the server's log says why"))
        assert self._scheduler is not None
        times = StageTimes(0.0, perf_counter() - started, 0.0)
        self._scheduler.finished(replica, batch, Reply(outputs, failures, times))


def _all(batch: Batch, error: ForwardpassError) -> dict[int, ForwardpassError]:
    return dict.fromkeys(range(len(batch.requests)), error)
