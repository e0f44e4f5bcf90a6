"""The replicas of one model version as one front holds them: attached, watched, lost.

Hands ready replicas to the scheduler and takes lost ones from it. A worker that runs a batch for
longer than any request may wait is killed: nobody would take its answer any more. Starts no
workers; whoever does gives it their links.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter

from forwardpass.engine.link import Link
from forwardpass.engine.messages import FailedHead, MeasuredHead, ReadyHead
from forwardpass.engine.replica import WorkerReplica
from forwardpass.scheduler import Batch, Reply, Scheduler

log = logging.getLogger(__name__)

WATCH_EVERY = 0.5
GRACE = 2.0  # seconds beyond the timeout, or beyond a stop, before a worker that hangs is killed


class ReplicaGroup:
    """Replicas whose batches come from one scheduler.

    ``on_ready`` is told once, with what the first worker said of the model, and gives the scheduler;
    ``on_failed`` once a worker says that the model cannot be loaded, and none is ready.
    """

    def __init__(
        self,
        name: str,
        on_ready: Callable[[ReadyHead], Scheduler],
        on_failed: Callable[[FailedHead], None] = lambda failed: None,
    ) -> None:
        self.name = name
        self.scheduler: Scheduler | None = None
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._let_go = False
        self._all: set[WorkerReplica] = set()
        self._ready: set[WorkerReplica] = set()
        self._loop = asyncio.get_running_loop()
        self._watcher = self._loop.call_later(WATCH_EVERY, self._watch)

    @property
    def ready(self) -> int:
        """How many workers can take batches."""
        return len(self._ready)

    @property
    def size(self) -> int:
        """How many workers there are, ready or not."""
        return len(self._all)

    @property
    def pids(self) -> list[int]:
        return [replica.pid for replica in self._all]

    async def add(self, pid: int, link: Link) -> None:
        """A worker was started, and this is the link to it."""
        link.keep()
        replica = await WorkerReplica.connect(self._loop, self, pid, link)
        self._all.add(replica)
        if self._let_go:  # meanwhile
            replica.close()

    async def let_go(self) -> None:
        """Close all links, and return when they are closed; what waits is the scheduler's."""
        self._let_go = True
        self._watcher.cancel()
        for replica in list(self._all):
            if self.scheduler is not None:
                self.scheduler.detach(replica)
            replica.close()
        while self._all:
            await asyncio.sleep(0.005)

    # ReplicaOwner

    def replica_ready(self, replica: WorkerReplica, ready: ReadyHead) -> None:
        if self.scheduler is None:
            self.scheduler = self._on_ready(ready)
        self._ready.add(replica)
        self.scheduler.attach(replica)

    def replica_failed(self, replica: WorkerReplica, failed: FailedHead) -> None:
        """The worker could not load the model, and ends."""
        if not self._ready:
            self._on_failed(failed)

    def replica_measured(self, replica: WorkerReplica, measured: MeasuredHead) -> None:
        if self.scheduler is not None:
            self.scheduler.learn(measured.rows, measured.seconds, measured.length)

    def replica_finished(self, replica: WorkerReplica, batch: Batch, reply: Reply) -> None:
        assert self.scheduler is not None
        self.scheduler.finished(replica, batch, reply)

    def replica_lost(self, replica: WorkerReplica) -> None:
        self._all.discard(replica)
        self._ready.discard(replica)
        if self.scheduler is not None:
            self.scheduler.lost(replica, "the process ended")

    def _watch(self) -> None:
        """Kill workers that hang; their requests have been answered by their deadlines."""
        self._watcher = self._loop.call_later(WATCH_EVERY, self._watch)
        now = perf_counter()
        for replica in self._ready:
            since, batch = replica.busy_since, replica.batch
            if since is not None and batch is not None and all(request.done for request in batch.requests):
                limit = self.scheduler.limits.timeout if self.scheduler else 0.0
                if now - since > limit + GRACE:
                    log.error("a worker of %s hangs since %.0f s; killed", self.name, now - since)
                    replica.kill()
