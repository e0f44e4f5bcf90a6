"""Requests of more rows than a batch may hold: cut into parts, answered as one.

Every row comes back to its place whatever batches the parts ran in; the first part that fails
fails the whole request and takes its other parts out of the queue.
"""

from __future__ import annotations

import numpy as np

from forwardpass.errors import ForwardpassError
from forwardpass.scheduler.batch import fail, succeed
from forwardpass.scheduler.request import Request
from forwardpass.scheduler.scheduler import Scheduler
from forwardpass.types import Columns


class Part(Request):
    """Some rows of a larger request."""

    reported = False

    def __init__(self, whole: Whole, index: int, start: int, stop: int) -> None:
        request = whole.request
        self.owner = whole
        self.index = index
        self.columns = {name: array[start:stop] for name, array in request.columns.items()}
        self.rows = stop - start
        self.nbytes = request.nbytes * self.rows // request.rows
        self.arrived = request.arrived
        self.deadline = request.deadline
        self.key = request.key

    def succeed(self, outputs: Columns) -> None:
        self.owner.part_succeeded(self, outputs)

    def fail(self, error: ForwardpassError) -> None:
        self.owner.part_failed(error)


class Whole:
    """Collects the answers to the parts of one request."""

    def __init__(self, scheduler: Scheduler, request: Request, size: int) -> None:
        self.scheduler = scheduler
        self.request = request
        starts = range(0, request.rows, size)
        self.parts = [Part(self, i, start, min(start + size, request.rows)) for i, start in enumerate(starts)]
        self._outputs: list[Columns | None] = [None] * len(self.parts)
        self._missing = len(self.parts)
        self._cancelled = False
        request.whole = self

    def part_succeeded(self, part: Part, outputs: Columns) -> None:
        self._outputs[part.index] = outputs
        self._missing -= 1
        if self.request.started is None:
            self.request.started = part.started
        if self._missing == 0 and not self.request.done:
            self.request.batch = part.batch
            pieces = [piece for piece in self._outputs if piece is not None]
            succeed(self.request, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]})
            self.scheduler.report(self.request)

    def part_failed(self, error: ForwardpassError) -> None:
        if not self.request.done:
            fail(self.request, error)
            self.scheduler.report(self.request)
        self.cancel()

    def cancel(self) -> None:
        """Take what still waits out of the queue."""
        if self._cancelled:
            return
        self._cancelled = True
        for part in self.parts:
            self.scheduler.cancel(part)


def submit_in_parts(scheduler: Scheduler, request: Request) -> None:
    """Queue a request in parts of at most ``max_batch_size`` rows.

    Raises what ``Scheduler.submit`` raises, before any part is queued.
    """
    scheduler.admit(request)
    for part in Whole(scheduler, request, scheduler.limits.max_batch_size).parts:
        scheduler.enqueue(part)
