"""All replicas of one model version: started, watched, started again with backoff.

Hands ready replicas to the scheduler and takes lost ones from it. A worker that runs a batch for
longer than any request may wait is killed: nobody would take its answer any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from forwardpass.engine.messages import FailedHead, ReadyHead
from forwardpass.engine.nursery import Nursery
from forwardpass.engine.replica import WorkerReplica
from forwardpass.errors import ForwardpassError, NotReady
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Batch, Reply, Scheduler

log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0
QUICK_RESTARTS = 8  # deaths after a batch ran are restarted at once so often, to isolate a bad row
HEALTHY_AFTER = 30.0  # seconds a worker must live for its model to count as healthy again
WATCH_EVERY = 0.5
GRACE = 2.0  # seconds beyond the timeout, or beyond a stop, before a worker that hangs is killed
LOAD_TRIES = 3  # workers that may die while they load before their model counts as one that cannot be loaded


class Replicas:
    """``count`` workers of one version, kept running until ``stop``.

    ``on_ready`` is told once, with what the first worker said of the model; ``on_failed`` is told
    once no worker is ready and one says that the model cannot be loaded, or several died of loading it
    (it is not tried again).
    """

    def __init__(
        self,
        nursery: Nursery,
        location: ModelLocation,
        count: int,
        threads: int,
        on_ready: Callable[[ReadyHead], Scheduler],
        on_failed: Callable[[FailedHead], None],
    ) -> None:
        self.location = location
        self.count = count
        self.restarts = 0
        self.scheduler: Scheduler | None = None
        self._nursery = nursery
        self._threads = threads
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._all: set[WorkerReplica] = set()
        self._ready: set[WorkerReplica] = set()
        self._deaths = 0
        self._last_death = 0.0
        self._stopping = False
        self._failure: FailedHead | None = None
        self._given_up = False
        self._stillborn = 0  # workers that died before they were ready, one after the other
        self._how = ""  # how the last worker that died did
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._watcher = self._loop.call_later(WATCH_EVERY, self._watch)

    def start(self) -> None:
        for _ in range(self.count):
            self._spawn(0.0)

    @property
    def ready(self) -> int:
        """How many workers can take batches."""
        return len(self._ready)

    @property
    def pids(self) -> list[int]:
        return [replica.pid for replica in self._all]

    async def stop(self) -> None:
        """End all workers, and return when their processes are gone; what waits is the scheduler's."""
        self._stopping = True
        self._watcher.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        pids = self.pids
        for replica in list(self._all):
            if self.scheduler is not None:
                self.scheduler.detach(replica)
            replica.close()
        end = perf_counter() + GRACE
        while (pids := [pid for pid in pids if _runs(pid)]) and perf_counter() < end:
            await asyncio.sleep(0.005)
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        while self._all:
            await asyncio.sleep(0.005)

    # ReplicaOwner

    def replica_ready(self, replica: WorkerReplica, ready: ReadyHead) -> None:
        if self.scheduler is None:
            self.scheduler = self._on_ready(ready)
        self._ready.add(replica)
        self._stillborn = 0
        self.scheduler.attach(replica)

    def replica_failed(self, replica: WorkerReplica, failed: FailedHead) -> None:
        log.error("%s cannot be loaded: %s", self.location.name, failed.message)
        self._failure = failed
        self._give_up()

    def replica_finished(self, replica: WorkerReplica, batch: Batch, reply: Reply) -> None:
        assert self.scheduler is not None
        self.scheduler.finished(replica, batch, reply)

    def replica_lost(self, replica: WorkerReplica) -> None:
        self._all.discard(replica)
        self._stillborn += replica not in self._ready
        self._ready.discard(replica)
        if self.scheduler is not None:
            self.scheduler.lost(replica, "the process ended")
        if self._stopping:
            return
        if self.scheduler is None and self._failure is None and self._stillborn >= LOAD_TRIES:
            text = f"{self.location.name}: {self._stillborn} workers died while they loaded it{self._how}"
            self._failure = FailedHead("BackendFailed", text)
        if self._failure is not None:
            self._give_up()
            return
        self.restarts += 1
        delay = self._backoff()
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
            born = await self._nursery.fork(self.location, self._threads, self._ended)
        except NotReady as error:
            log.warning("%s: %s", self.location.name, error.message)
            self._spawn(self._backoff() + FIRST_BACKOFF)
            return
        self._all.add(await WorkerReplica.connect(self._loop, self, born))

    def _ended(self, status: int) -> None:
        if not self._stopping and status:
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            self._how = f" ({how})"
            log.warning("a worker of %s ended with %s", self.location.name, how)

    def _watch(self) -> None:
        """Kill workers that hang; their requests have been answered by their deadlines."""
        self._watcher = self._loop.call_later(WATCH_EVERY, self._watch)
        now = perf_counter()
        for replica in self._ready:
            since, batch = replica.busy_since, replica.batch
            if since is not None and batch is not None and all(request.done for request in batch.requests):
                limit = self.scheduler.limits.timeout if self.scheduler else 0.0
                if now - since > limit + GRACE:
                    log.error("a worker of %s hangs since %.0f s; killed", self.location.name, now - since)
                    replica.kill()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def stopped(name: str) -> ForwardpassError:
    """What requests get that still wait when their model is unloaded."""
    return NotReady(f"model {name!r} is being unloaded")
