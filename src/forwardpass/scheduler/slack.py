"""Requests in the background: they run while no other waits, in batches too short to hold one up.

A job's rows, for which seconds do not count. Live requests never queue behind them; at most they
find a replica busy with one such batch. Knows the queue and the cost, not replicas or answers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import inf

from forwardpass.config import Limits
from forwardpass.errors import Overloaded, TooLarge
from forwardpass.scheduler.batch import Reason
from forwardpass.scheduler.cost import CostModel
from forwardpass.scheduler.forming import Former, Taken
from forwardpass.scheduler.request import Request

BESIDE = 0.002  # seconds that a batch may be predicted to run where live requests come as well
QUIET = 1.0  # seconds without a live request after which batches are as large as any


class Slack:
    """The queue of the background. ``live_at`` is when a live request last left its own queue."""

    def __init__(self, limits: Limits, cost: CostModel, *, batched: bool, ragged: bool) -> None:
        self.rows = 0
        self.bytes = 0
        self.live_at = -inf
        self._limits = limits
        at_once = replace(limits, max_delay=0.0)
        short = replace(at_once, max_batch_time=min(BESIDE, limits.max_batch_time))
        self.beside = Former(short, cost, batched=batched, ragged=ragged)
        self._alone = Former(at_once, cost, batched=batched, ragged=ragged)
        self._queue: deque[Request] = deque()

    def __bool__(self) -> bool:
        return bool(self._queue)

    def admit(self, request: Request) -> None:
        """Raises ``TooLarge`` or ``Overloaded`` where the queue does not take a request."""
        limits = self._limits
        if request.rows > limits.max_queue_size:
            raise TooLarge(f"{request.rows} rows in one request; at most {limits.max_queue_size} may wait")
        if self.rows + request.rows > limits.max_queue_size or self.bytes + request.nbytes > limits.max_queue_bytes:
            raise Overloaded(f"the background's queue is full: {self.rows} rows wait; try again")

    def add(self, request: Request) -> None:
        self._queue.append(request)
        self.rows += request.rows
        self.bytes += request.nbytes

    def leave(self, request: Request) -> None:
        """It runs, or has ended."""
        self.rows -= request.rows
        self.bytes -= request.nbytes

    def take(self, now: float) -> Taken:
        """The next batch."""
        former = self._alone if now - self.live_at > QUIET else self.beside
        taken = former.take(self._queue, now)
        taken.reason = Reason.SLACK
        return taken

    def clear(self) -> list[Request]:
        """Everything that waits, which it forgets."""
        waiting = list(self._queue)
        self._queue.clear()
        return waiting
