"""One model version's queue: bounded, work-conserving, every request answered.

A batch leaves the moment a replica is idle, with all that waits, up to ``max_batch_size`` rows and
up to a predicted run time. Requests past their deadline, and requests nobody waits for any more,
never reach a replica; those of the background wait in a queue of their own. A batch whose worker
died runs once more, in halves, so that a request that kills workers ends up alone and fails alone.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forwardpass.config import Limits
from forwardpass.errors import BackendFailed, Cancelled, ForwardpassError, Overloaded, TimedOut, TooLarge
from forwardpass.scheduler.batch import Batch, Reason, Reply, fail
from forwardpass.scheduler.cost import CostModel
from forwardpass.scheduler.deadlines import Deadlines
from forwardpass.scheduler.forming import Former, Taken
from forwardpass.scheduler.lengths import longest_row
from forwardpass.scheduler.request import Request
from forwardpass.scheduler.share import QueueShare
from forwardpass.scheduler.slack import Slack

log = logging.getLogger(__name__)

MAX_DEATHS = 3  # workers a request may take down before it fails; two may die for reasons of their own
MARGIN = 1.2  # by which a predicted wait may be too short
PACE = (0.25, 20.0)  # times the predicted seconds that a batch may count for the pace
SHORT = 0.0005  # seconds; a shorter batch can wait for what is read while answers are handed out
NEWEST = 0.1  # weight of a batch in the mean length, and in the pace
TICK = 0.02  # seconds between looks at the deadlines while anything is under way


class Replica(Protocol):
    """Runs one batch at a time; tells the scheduler by ``finished`` or ``lost``."""

    def run(self, batch: Batch) -> None: ...


class Timers(Protocol):
    """The event loop, as far as the scheduler needs it."""

    def call_soon(self, callback: Callable[[], object], /) -> Any: ...
    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any: ...


class Scheduler:
    """The queue of one model version and the replicas that serve it.

    ``clock`` gives seconds; ``observe`` is told of every request once, when it has ended;
    ``answered`` is called when the answers of a batch have all been handed out. ``ragged`` names the
    columns whose rows may be of unlike length, where that matters to what a batch costs; ``share``
    makes the limits of the queue hold over several fronts.
    Not thread-safe: everything happens on one event loop.
    """

    def __init__(
        self,
        limits: Limits,
        batched: bool,
        clock: Callable[[], float],
        timers: Timers,
        observe: Callable[[Sequence[Request]], None] = lambda requests: None,
        answered: Callable[[], None] = lambda: None,
        ragged: Sequence[str] = (),
        share: QueueShare | None = None,
    ) -> None:
        self.limits = limits
        self.batched = batched
        self.ragged = ragged
        self.cost = CostModel()
        self.former = Former(limits, self.cost, batched=batched, ragged=bool(ragged))
        self.slack = Slack(limits, self.cost, batched=batched, ragged=bool(ragged))
        self.queued_rows = 0
        self.queued_bytes = 0
        self.reasons: Counter[Reason] = Counter()
        self.replicas: list[Replica] = []
        self._share = share
        self._clock = clock
        self._timers = timers
        self._observe = observe
        self._answered = answered
        self._queue: deque[Request] = deque()
        self._retries: deque[list[Request]] = deque()
        self._idle: deque[Replica] = deque()
        self._running: dict[int, tuple[Replica, Batch]] = {}
        self._deadlines = Deadlines()
        self._dispatch_due = False
        self._gathering_ends = False  # a timer is set for that
        self._ticking = False
        self._row_seconds = 0.0
        self._mean_length = 0.0
        self._pace = 1.0  # seconds that batches were away lately, of those predicted: the way, others, ups and downs
        self._longest_wait = 0.0  # predicted, behind a full queue
        self._stopped: ForwardpassError | None = None

    # Requests

    def submit(self, request: Request) -> None:
        """Queue a request of at most ``room_for`` rows (any number where not batched).

        Raises ``Overloaded`` or ``TooLarge`` where it is not admitted; else it is answered later.
        """
        self.admit(request)
        self.enqueue(request)

    def admit(self, request: Request) -> None:
        """Whether the queue takes a request now. Raises what ``submit`` raises."""
        limits = self.limits
        if self._stopped is not None:
            raise self._stopped
        if request.background:
            self.slack.admit(request)
            return
        rows, nbytes = self.queued_rows, self.queued_bytes
        if self._share is not None:
            other_rows, other_bytes = self._share.elsewhere()
            rows, nbytes = rows + other_rows, nbytes + other_bytes
        if rows + request.rows > limits.max_queue_size:
            self._refuse_rows(request, rows)
        if nbytes + request.nbytes > limits.max_queue_bytes:
            raise Overloaded(
                f"the queue is full: {nbytes} bytes wait, at most {limits.max_queue_bytes} may; try again",
                self._drain_seconds(0),
            )
        if self.queued_rows and request.arrived + self._longest_wait > request.deadline:
            wait = self._drain_seconds(request.rows) + self._until_idle()
            if request.arrived + MARGIN * wait > request.deadline:
                raise Overloaded(
                    f"cannot be answered in time: about {wait:.2f} s of work wait, and the deadline "
                    f"is in {request.deadline - request.arrived:.2f} s; try again later, or give a longer timeout",
                    wait,
                )

    def enqueue(self, request: Request) -> None:
        """Queue an admitted request."""
        if self.ragged:
            request.length = longest_row(request.columns, self.ragged)
        request.waiting = True
        self._deadlines.add(request)
        if request.background:
            self.slack.add(request)
        else:
            self._queue.append(request)
            self.queued_rows += request.rows
            self.queued_bytes += request.nbytes
            if self._share is not None:
                self._share.tell(self.queued_rows, self.queued_bytes)
        if self._idle:
            self._dispatch_soon()
        if not self._ticking:
            self._ticking = True
            self._timers.call_later(TICK, self._tick)

    def cancel(self, request: Request) -> None:
        """Nobody waits for it any more: it will not run, or its answer is dropped."""
        if not request.done:
            self._end(request, Cancelled("the client left before the answer"))
        if request.whole is not None:
            request.whole.cancel()

    def report(self, request: Request) -> None:
        """A request that ran in parts has ended."""
        self._observe([request])

    # Replicas

    def attach(self, replica: Replica) -> None:
        """A replica is ready and idle."""
        self.replicas.append(replica)
        self._idle.append(replica)
        self._dispatch()

    def detach(self, replica: Replica) -> None:
        """A replica will take no more batches (it stops once it is idle)."""
        if replica in self.replicas:
            self.replicas.remove(replica)
        if replica in self._idle:
            self._idle.remove(replica)

    def finished(self, replica: Replica, batch: Batch, reply: Reply) -> None:
        """A batch came back: start the next one first (unless it is short), then hand out the answers."""
        now = self._clock()
        batch.finished = now
        del self._running[id(batch)]
        if replica in self.replicas:
            self._idle.append(replica)
            if self._queue and 0.0 < self.cost.seconds(self.queued_rows, self._mean_length) < SHORT:
                self._dispatch_soon()
            elif self._queue or self._retries:
                self._dispatch()
            elif self.slack:
                self._dispatch_soon()  # after what is read meanwhile
        ended = batch.answer(reply)
        self._answered()
        if not reply.failures:
            self._keep_pace(batch)
            self.learn(batch.rows, reply.times.total, batch.length)  # after the answers: nobody waits for it
        reported = [request for request in ended if request.reported]
        if reported:
            self._observe(reported)
        batch.requests = []  # they know their batch: without this, each would be garbage only the collector finds

    def learn(self, rows: int, seconds: float, length: int = 0) -> None:
        """So many rows ran as one batch, the longest of this length."""
        cost = self.cost
        cost.learn(rows, seconds, length)
        if self.ragged:
            self._mean_length += (length - self._mean_length) * max(NEWEST, 1.0 / cost.batches)
        best = self.best_rows()
        self._row_seconds = cost.seconds(best, self._mean_length) / best
        self._longest_wait = MARGIN * (self._drain_seconds(self.limits.max_queue_size) + self.limits.max_batch_time)

    def _keep_pace(self, batch: Batch) -> None:
        predicted = self.cost.seconds(batch.rows, batch.length)
        if predicted > 0.0:
            low, high = PACE
            pace = min(high, max(low, (batch.finished - batch.started) / predicted))
            self._pace += (pace - self._pace) * NEWEST

    def best_rows(self) -> int:
        """Rows of a batch while more of the usual length wait than it may hold."""
        length = round(self._mean_length)
        if not self.batched or not self.cost.pays(1, length, 1, length):
            return 1
        return self.former.room(length)

    def room_for(self, request: Request) -> int:
        """Most rows of a request that should run as one batch; it is cut into parts of so many."""
        if not self.batched:
            return request.rows
        former = self.slack.beside if request.background else self.former
        return former.room(longest_row(request.columns, self.ragged) if self.ragged else 0)

    def lost(self, replica: Replica, why: str) -> None:
        """A replica died. What it ran runs again, in halves; what killed too many fails."""
        self.detach(replica)
        for key, (owner, batch) in list(self._running.items()):
            if owner is replica:
                del self._running[key]
                self._run_again(batch, why)
        self._dispatch()

    def stop(self, error: ForwardpassError) -> None:
        """Answer everything under way with an error, and every later request too."""
        self._stopped = error
        waiting = [*self._queue, *self.slack.clear(), *(request for group in self._retries for request in group)]
        running = [request for _, batch in self._running.values() for request in batch.requests]
        self._queue.clear()
        self._retries.clear()
        for request in (*waiting, *running):
            if not request.done:
                self._end(request, error)

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._queue or self._retries or self._running or self.slack)

    # Forming batches

    def _dispatch_soon(self) -> None:
        """At the end of this turn of the loop, so that requests read in one turn share a batch."""
        if not self._dispatch_due:
            self._dispatch_due = True
            self._timers.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_due = False
        while self._idle and (self._retries or self._queue or self.slack):
            batch = self._next()
            if batch is None:
                return
            replica = self._idle.popleft()
            self.reasons[batch.reason] += 1
            self._running[id(batch)] = (replica, batch)
            try:
                replica.run(batch)
            except Exception as error:  # noqa: BLE001  the batch loop: whatever cannot be sent, the others get their answers
                self._not_sent(replica, batch, error)

    def _next(self) -> Batch | None:
        """What runs again, else what waits, else what runs in the background; None while more should gather."""
        if self._retries and (again := self._retry()) is not None:
            return again
        if self._queue and (batch := self._form()) is not None:
            return batch
        return None if self._queue else self._form_slack()

    def _not_sent(self, replica: Replica, batch: Batch, error: Exception) -> None:
        """The replica could not take the batch and is still idle: try its requests one by one."""
        del self._running[id(batch)]
        self._idle.append(replica)
        if len(batch.requests) > 1:
            self._retries.extend([request] for request in batch.requests)
            return
        if not isinstance(error, ForwardpassError):
            log.error("a request could not be sent to a worker", exc_info=error)
            error = BackendFailed("the request could not be sent to a worker; the server's log says why")
        self._end(batch.requests[0], error)

    def _form(self) -> Batch | None:
        """The next batch from the queue, or None where nothing is left or more should gather."""
        now = self._clock()
        if self.limits.max_delay and self._gathering(now):
            return None
        self.slack.live_at = now
        batch = self._taken(self.former.take(self._queue, now), now)
        if self._share is not None:
            self._share.tell(self.queued_rows, self.queued_bytes)
        return batch

    def _form_slack(self) -> Batch | None:
        now = self._clock()
        return self._taken(self.slack.take(now), now) if self.slack else None

    def _taken(self, taken: Taken, now: float) -> Batch | None:
        for request in taken.late:
            self._end(request, _late(request))
        if not taken.requests:
            return None
        for request in taken.requests:
            request.started = now
            self._leave(request)
        return self._batch(taken.requests, taken.rows, taken.reason, now, taken.longest)

    def _leave(self, request: Request) -> None:
        """It waits no longer."""
        request.waiting = False
        if request.background:
            self.slack.leave(request)
        else:
            self.queued_rows -= request.rows
            self.queued_bytes -= request.nbytes

    def _batch(self, requests: list[Request], rows: int, reason: Reason, now: float, length: int) -> Batch:
        batch = Batch(requests, rows, reason, now, length)
        for request in requests:
            request.batch = batch
        return batch

    def _gathering(self, now: float) -> bool:
        """Whether the head of the queue may wait longer for company; looks again when it may not."""
        wait = self._queue[0].arrived + self.limits.max_delay - now
        if wait <= 0 or self.queued_rows >= self.best_rows() or not self.batched:
            return False
        if not self._gathering_ends:
            self._gathering_ends = True
            self._timers.call_later(wait, self._gathered)
        return True

    def _gathered(self) -> None:
        self._gathering_ends = False
        self._dispatch()

    def _retry(self) -> Batch | None:
        now = self._clock()
        while self._retries:
            requests = [request for request in self._retries.popleft() if not request.done]
            for request in requests:
                if request.deadline <= now:
                    self._end(request, _late(request))
            requests = [request for request in requests if not request.done]
            if requests:
                rows, longest = sum(request.rows for request in requests), max(request.length for request in requests)
                return self._batch(requests, rows, Reason.RETRY, now, longest)
        return None

    # Ends

    def _run_again(self, batch: Batch, why: str) -> None:
        alone = len(batch.requests) == 1
        left = []
        for request in batch.requests:
            request.deaths += 1
            if request.done:
                continue
            if alone and request.deaths >= MAX_DEATHS:
                text = f"the worker died while it ran this request, {MAX_DEATHS} times: {why}"
                self._end(request, BackendFailed(text))
            else:
                left.append(request)
        half = (len(left) + 1) // 2
        self._retries.extend(part for part in (left[:half], left[half:]) if part)

    def _tick(self) -> None:
        now = self._clock()
        for request in self._deadlines.passed(now):
            self._end(request, _late(request))
        self._ticking = len(self._deadlines) > 0
        if self._ticking:
            self._timers.call_later(TICK, self._tick)

    def _end(self, request: Request, error: ForwardpassError) -> None:
        """End one request outside a batch's answer."""
        if request.waiting:
            self._leave(request)
            if self._share is not None:
                self._share.tell(self.queued_rows, self.queued_bytes)
        fail(request, error)
        if request.reported:
            self._observe([request])

    def _drain_seconds(self, more_rows: int) -> float:
        """Predicted seconds until the queue and ``more_rows`` have run, once a replica is idle."""
        return self._pace * self._row_seconds * (self.queued_rows + more_rows) / max(1, len(self.replicas))

    def _until_idle(self) -> float:
        """Predicted seconds until a replica is idle."""
        if self._idle or not self._running:
            return 0.0
        ends = (batch.started + self.cost.seconds(batch.rows, batch.length) for _, batch in self._running.values())
        return max(0.0, min(ends) - self._clock())

    def _refuse_rows(self, request: Request, waiting: int) -> None:
        most = self.limits.max_queue_size
        if request.rows > most:
            raise TooLarge(f"{request.rows} rows in one request; at most {most} may wait. Send fewer at a time.")
        raise Overloaded(
            f"the queue is full: {waiting} rows wait, at most {most} may; try again",
            self._drain_seconds(0),
        )


def _late(request: Request) -> TimedOut:
    where = "waiting" if request.started is None else "running"
    return TimedOut(f"not answered within {request.deadline - request.arrived:.3g} s (still {where}); try again later")
