"""A small deterministic world for the scheduler: a loop with a clock of its own, replicas that obey
the interface and finish or die when told, and requests that write down how they ended.

Nothing here sleeps: time passes only in ``Loop.advance``.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np

from forwardpass.config import Limits
from forwardpass.errors import BackendFailed, ForwardpassError
from forwardpass.scheduler import Batch, Reply, Request, Scheduler
from forwardpass.scheduler.parts import submit_in_parts
from forwardpass.types import Columns, StageTimes

ADDED = 1_000_000  # what a fake model adds to each row


class Loop:
    """Timers in the order of their time, callbacks in the order in which they were given."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._count = count()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> None:
        heapq.heappush(self._timers, (self.now + delay, next(self._count), callback))

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return len(self._timers)

    def turn(self) -> None:
        """End this turn: run what was to be called soon, until there is none."""
        while self._soon:
            self._soon.popleft()()

    def advance(self, seconds: float) -> None:
        """Let time pass, running each timer at its time."""
        until = self.now + seconds
        self.turn()
        while self._timers and self._timers[0][0] <= until:
            at, _, callback = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            callback()
            self.turn()
        self.now = until


class Asked(Request):
    """Rows of whole numbers; writes down each answer and error that it gets."""

    def __init__(self, first: int = 0, rows: int = 1, now: float = 0.0, timeout: float = 30.0) -> None:
        self.arrived = now
        self.deadline = now + timeout
        self.columns = {"x": np.arange(first, first + rows)}
        self.rows = rows
        self.nbytes = 8 * rows
        self.answers: list[list[int]] = []
        self.errors: list[ForwardpassError] = []

    def succeed(self, outputs: Columns) -> None:
        self.answers.append(outputs["y"].tolist())

    def fail(self, error: ForwardpassError) -> None:
        self.errors.append(error)

    @property
    def ends(self) -> int:
        return len(self.answers) + len(self.errors)

    @property
    def right(self) -> bool:
        """Whether it was answered once, with the answers to its own rows."""
        return not self.errors and self.answers == [(self.columns["x"] + ADDED).tolist()]


class FakeReplica:
    """Runs one batch at a time: ``finish`` sends the answers, ``die`` loses the process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.batch: Batch | None = None
        self.ran: list[list[int]] = []

    def run(self, batch: Batch) -> None:
        assert self.batch is None, "a replica runs one batch at a time"
        assert batch.requests, "a batch holds requests"
        assert not any(request.done for request in batch.requests), "what nobody waits for never runs"
        assert all(request.deadline > self.world.loop.now for request in batch.requests), "nor what is too late"
        assert batch.rows == sum(request.rows for request in batch.requests)
        self.batch = batch
        self.ran.append(batch.stack()["x"].tolist())

    def finish(self, failures: Mapping[int, ForwardpassError] | None = None, times: StageTimes | None = None) -> None:
        """The answers come back; ``failures`` by the index of the request in the batch.

        ``times`` default to a forward pass of all the time that passed.
        """
        batch, self.batch = self.batch, None
        assert batch is not None
        failed = failures or {}
        good = [request.columns["x"] for index, request in enumerate(batch.requests) if index not in failed]
        outputs = {"y": np.concatenate(good) + ADDED} if good else {}
        times = times or StageTimes(0.0, self.world.loop.now - batch.started, 0.0)
        self.world.scheduler.finished(self, batch, Reply(outputs, failed, times))

    def die(self) -> None:
        self.batch = None
        self.world.scheduler.lost(self, "killed")


class World:
    """A scheduler with its loop; ``observed`` holds the requests it has reported."""

    def __init__(
        self, limits: Limits | None = None, batched: bool = True, replicas: int = 0, ragged: Sequence[str] = ()
    ) -> None:
        self.loop = Loop()
        self.observed: list[Request] = []
        self.scheduler = Scheduler(limits or Limits(), batched, self.loop.time, self.loop, self._observe, ragged=ragged)
        self.replicas: list[FakeReplica] = []
        self._next = 0
        for _ in range(replicas):
            self.attach()

    def _observe(self, requests: Sequence[Request]) -> None:
        self.observed.extend(requests)

    def attach(self) -> FakeReplica:
        replica = FakeReplica(self)
        self.replicas.append(replica)
        self.scheduler.attach(replica)
        return replica

    def request(self, rows: int = 1, timeout: float = 30.0, key: object = None, background: bool = False) -> Asked:
        """A request with rows that no other has, not submitted yet."""
        asked = Asked(self._next, rows, self.loop.now, timeout)
        asked.key = key
        asked.background = background
        self._next += rows
        return asked

    def submit(self, rows: int = 1, timeout: float = 30.0, key: object = None, background: bool = False) -> Asked:
        """Submit a request, in parts where it is larger than a batch."""
        return self.submit_request(self.request(rows, timeout, key, background))

    def submit_request(self, asked: Asked) -> Asked:
        if asked.rows > 1 and asked.rows > self.scheduler.room_for(asked):
            submit_in_parts(self.scheduler, asked)
        else:
            self.scheduler.submit(asked)
        return asked

    def ask(self, *sizes: int) -> list[Asked]:
        """Requests of so many rows each, submitted in one turn of the loop."""
        asked = [self.submit(rows) for rows in sizes]
        self.loop.turn()
        return asked

    def teach(self, start: float, per_row: float, per_padded: float = 0.0) -> None:
        """Batches of several sizes took ``start + per_row x rows + per_padded x rows x length`` seconds."""
        for rows in (1, 2, 4, 8):
            for length in (10, 40, 160) if per_padded else (0,):
                self.scheduler.learn(rows, start + (per_row + per_padded * length) * rows, length)

    def finish_all(self) -> None:
        """Let every replica finish, until nothing is under way; needs a replica."""
        self.loop.turn()
        while self.scheduler.busy:
            running = [replica for replica in self.replicas if replica.batch is not None]
            assert running, "something waits, and nothing runs"
            for replica in running:
                replica.finish()
            self.loop.turn()


def bad(text: str = "bad row") -> ForwardpassError:
    return BackendFailed(text)
