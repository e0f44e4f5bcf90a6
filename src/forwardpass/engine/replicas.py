"""The worker processes of one model version: started, started again with backoff, stopped.

What their front does with them while they live is in ``group``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter

from forwardpass.engine.group import GRACE, ReplicaGroup
from forwardpass.engine.link import Link
from forwardpass.engine.messages import FailedHead, ReadyHead
from forwardpass.engine.replica import WorkerReplica
from forwardpass.engine.starter import Starter
from forwardpass.errors import NotReady
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Scheduler

log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0
QUICK_RESTARTS = 8  # deaths before any batch came back that are followed by a restart at once, to isolate a bad row
HEALTHY_AFTER = 30.0  # seconds a worker must live for its model to count as healthy again
LOAD_TRIES = 3  # workers that may die while they load before their model counts as one that cannot be loaded


class Replicas(ReplicaGroup):
    """``count`` workers of one version, kept running until ``stop``.

    ``on_ready`` is told once, with what the first worker said of the model; ``on_failed`` is told
    once no worker is ready and one says that the model cannot be loaded, or several died of loading it
    (it is not tried again). Where there are several ``fronts``, ``share`` is given the links of each
    new worker that are for the others.
    """

    def __init__(
        self,
        starter: Starter,
        location: ModelLocation,
        count: int,
        threads: int,
        on_ready: Callable[[ReadyHead], Scheduler],
        on_failed: Callable[[FailedHead], None],
        fronts: int = 1,
        share: Callable[[int, Sequence[Link]], None] = lambda pid, links: None,
    ) -> None:
        super().__init__(location.name, on_ready)
        self.location = location
        self.count = count
        self.restarts = 0
        self._starter = starter
        self._threads = threads
        self._on_failed = on_failed
        self._fronts = fronts
        self._share = share
        self._deaths = 0
        self._last_death = 0.0
        self._stopping = False
        self._failure: FailedHead | None = None
        self._given_up = False
        self._stillborn = 0  # workers that died before they were ready, one after the other
        self._measures = True  # the first worker measures what batches take, for all
        self._how = ""  # how the last worker that died did
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        for _ in range(self.count):
            self._spawn(0.0)

    async def stop(self) -> None:
        """End all workers, and return when their processes are gone; what waits is the scheduler's."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        pids = self.pids
        await self.let_go()
        end = perf_counter() + GRACE
        while (pids := [pid for pid in pids if _runs(pid)]) and perf_counter() < end:
            await asyncio.sleep(0.005)
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    # ReplicaOwner

    def replica_ready(self, replica: WorkerReplica, ready: ReadyHead) -> None:
        super().replica_ready(replica, ready)
        self._stillborn = 0

    def replica_failed(self, replica: WorkerReplica, failed: FailedHead) -> None:
        log.error("%s cannot be loaded: %s", self.location.name, failed.message)
        self._failure = failed
        self._give_up()

    def replica_lost(self, replica: WorkerReplica) -> None:
        self._stillborn += replica not in self._ready
        super().replica_lost(replica)
        if self._stopping:
            return
        if self.scheduler is None and self._failure is None and self._stillborn >= LOAD_TRIES:
            text = f"{self.location.name}: {self._stillborn} workers died while they loaded it{self._how}"
            self._failure = FailedHead("BackendFailed", text)
        if self._failure is not None:
            self._give_up()
            return
        self.restarts += 1
        delay = self._backoff() if replica.batches == 0 else 0.0
        log.warning(
            "a worker of %s died (process %d); another starts in %.1f s", self.location.name, replica.pid, delay
        )
        self._spawn(delay)

    def _give_up(self) -> None:
        if not self._ready and not self._given_up:
            self._given_up = True
            assert self._failure is not None
            self._on_failed(self._failure)

    # Starting

    def _backoff(self) -> float:
        now = perf_counter()
        if now - self._last_death > HEALTHY_AFTER:
            self._deaths = 0
        self._last_death = now
        self._deaths += 1
        if self._deaths <= QUICK_RESTARTS:
            return 0.0
        return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (self._deaths - QUICK_RESTARTS - 1))

    def _spawn(self, delay: float) -> None:
        task = self._loop.create_task(self._start_one(delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_one(self, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            measures, self._measures = self._measures, False
            born = await self._starter.fork(
                self.location, self._threads, self._ended, measures=measures, fronts=self._fronts
            )
        except NotReady as error:
            log.warning("%s: %s", self.location.name, error.message)
            self._spawn(self._backoff() + FIRST_BACKOFF)
            return
        link, *others = born.links
        self._share(born.pid, others)
        await self.add(born.pid, link)

    def _ended(self, status: int) -> None:
        if not self._stopping and status:
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            self._how = f" ({how})"
            log.warning("a worker of %s ended with %s", self.location.name, how)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
