"""Which requests are past their deadline, at a cost of nanoseconds per request.

Nearly all requests of a model carry the same timeout, so their deadlines pass in the order of
arrival and a queue does for them; the few with a timeout of their own go to a heap.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import count

from forwardpass.scheduler.request import Request

COMPACT_AT = 256  # requests kept (with their columns) before done ones behind a slow one are dropped


class Deadlines:
    """Requests by deadline. Those that ended otherwise are dropped as they come up."""

    def __init__(self) -> None:
        self._ordered: deque[Request] = deque()
        self._heap: list[tuple[float, int, Request]] = []
        self._count = count()
        self._compact_at = COMPACT_AT

    def __len__(self) -> int:
        return len(self._ordered) + len(self._heap)

    def add(self, request: Request) -> None:
        if not self._ordered or request.deadline >= self._ordered[-1].deadline:
            self._ordered.append(request)
        else:
            heapq.heappush(self._heap, (request.deadline, next(self._count), request))

    def passed(self, now: float) -> Iterator[Request]:
        """Requests not done whose deadline has passed; forgets them, and the done ones in front."""
        ordered, heap = self._ordered, self._heap
        while ordered and (ordered[0].done or ordered[0].deadline <= now):
            request = ordered.popleft()
            if not request.done:
                yield request
        while heap and (heap[0][2].done or heap[0][0] <= now):
            request = heapq.heappop(heap)[2]
            if not request.done:
                yield request
        if len(self) > self._compact_at:
            self._compact()

    def _compact(self) -> None:
        self._ordered = deque(request for request in self._ordered if not request.done)
        self._heap = [entry for entry in self._heap if not entry[2].done]
        heapq.heapify(self._heap)
        self._compact_at = max(COMPACT_AT, 2 * len(self))
