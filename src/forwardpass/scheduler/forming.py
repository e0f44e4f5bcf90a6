"""Which of the waiting requests leave together: those that run sooner together than one by one.

The request that has waited longest always leaves in the next batch; others join it in the order of
their arrival, as far as the limits and the cost curve say that it pays. A request that does not
join may be passed by later ones, by so many rows and no more. Knows the queue and the cost, not
replicas or answers.
"""

from __future__ import annotations

from collections import deque

from forwardpass.config import Limits
from forwardpass.scheduler.batch import Reason
from forwardpass.scheduler.cost import CostModel
from forwardpass.scheduler.request import Request

LOOK = 4  # times max_batch_size: so many requests that do not join are looked at for one batch
EXPLORE = 64  # batches kept small because more did not pay, until one takes more to see whether that still holds


class Taken:
    """What leaves as one batch; ``late`` are requests found past their deadline on the way."""

    __slots__ = ("late", "longest", "reason", "requests", "rows")

    def __init__(self, reason: Reason) -> None:
        self.requests: list[Request] = []
        self.rows = 0
        self.longest = 0
        self.reason = reason
        self.late: list[Request] = []


class Former:
    """Takes batches from a queue. ``ragged``: what a row costs depends on the longest it runs with."""

    def __init__(self, limits: Limits, cost: CostModel, *, batched: bool, ragged: bool) -> None:
        self._limits = limits
        self._cost = cost
        self._batched = batched
        self._ragged = ragged
        self._kept_small = 0

    def room(self, length: float = 0) -> int:
        """Most rows of a batch whose longest row has this length."""
        return self._cost.rows_within(self._limits.max_batch_time, self._limits.max_batch_size, length)

    def why_not(self, rows: int, longest: int, more: int, length: int, *, explores: bool = False) -> Reason | None:
        """Why ``more`` rows of a length should not join a batch; None where they should."""
        room = self.room(max(longest, length))
        if rows + more > room:
            return Reason.FULL if room >= self._limits.max_batch_size else Reason.TIME
        if explores or self._cost.pays(rows, longest, more, length):
            return None
        return Reason.COST

    def take(self, queue: deque[Request], now: float) -> Taken:
        """The next batch, out of the queue. It holds no request where all that waited was done or late."""
        taken = Taken(Reason.DELAY if self._limits.max_delay else Reason.IDLE)
        _drop_ended(queue, now, taken.late)
        if not queue:
            return taken
        head = queue.popleft()
        taken.requests.append(head)
        taken.rows, taken.longest = head.rows, head.length
        if not self._batched:
            taken.reason = Reason.ALONE
            return taken
        fill = self._by_length if self._ragged else self._in_order
        fill(taken, queue, now)
        if taken.rows >= self._limits.max_batch_size:
            taken.reason = Reason.FULL
        elif taken.reason is Reason.COST:
            self._kept_small += 1
        return taken

    def _in_order(self, taken: Taken, queue: deque[Request], now: float) -> None:
        """Let those in front join, past those of another shape, until one is too large."""
        most = self._limits.max_batch_size
        room, worth = self.room(), self._worth()
        key, requests, rows = taken.requests[0].key, taken.requests, taken.rows
        passed: list[Request] = []
        while queue:
            request = queue[0]
            if request.done or request.deadline <= now:
                _drop_ended(queue, now, taken.late)
            elif request.key != key:
                taken.reason = Reason.SHAPE
                if request.passed >= most or len(passed) >= LOOK * most:
                    break
                passed.append(queue.popleft())
            elif rows + request.rows > room:
                taken.reason = Reason.FULL if room >= most else Reason.TIME
                break
            elif request.rows > worth:
                taken.reason = Reason.COST
                break
            else:
                requests.append(queue.popleft())
                rows += request.rows
                for other in passed:
                    other.passed += request.rows
        taken.rows = rows
        queue.extendleft(reversed(passed))

    def _by_length(self, taken: Taken, queue: deque[Request], now: float) -> None:
        """Let those join that are of a like length, past those that are not."""
        most = self._limits.max_batch_size
        explores, key = self._explores(), taken.requests[0].key
        passed: list[Request] = []
        while queue and taken.rows < most:
            request = queue[0]
            if request.done or request.deadline <= now:
                _drop_ended(queue, now, taken.late)
                continue
            if request.key != key:
                why: Reason | None = Reason.SHAPE
            else:
                why = self.why_not(taken.rows, taken.longest, request.rows, request.length, explores=explores)
            if why is None:
                taken.requests.append(queue.popleft())
                taken.rows += request.rows
                taken.longest = max(taken.longest, request.length)
                for other in passed:
                    other.passed += request.rows
                continue
            taken.reason = why
            if request.passed >= most or len(passed) >= LOOK * most:
                break
            passed.append(queue.popleft())
        queue.extendleft(reversed(passed))

    def _worth(self) -> float:
        """Most rows of a request that are worth running with others, where rows have no length."""
        return float("inf") if self._explores() else self._cost.most_worth()

    def _explores(self) -> bool:
        """Whether this batch takes along what is predicted not to pay: else nothing would show that it does."""
        if self._kept_small < EXPLORE:
            return False
        self._kept_small = 0
        return True


def _drop_ended(queue: deque[Request], now: float, late: list[Request]) -> None:
    """Drop what is done from the front of the queue, and move to ``late`` what is past its deadline."""
    while queue and (queue[0].done or queue[0].deadline <= now):
        request = queue.popleft()
        if not request.done:
            late.append(request)
