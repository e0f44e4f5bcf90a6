"""Requests of more rows than should run as one batch: cut into parts, answered as one.

Rows of ragged inputs are cut in the order of their length, so that a part holds rows of a like
length. Every row comes back to its place whatever batches the parts ran in; the first part that
fails fails the whole request and takes its other parts out of the queue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardpass.errors import ForwardpassError
from forwardpass.scheduler.batch import fail, succeed
from forwardpass.scheduler.lengths import row_lengths
from forwardpass.scheduler.request import Request
from forwardpass.scheduler.scheduler import Scheduler
from forwardpass.types import Columns

Rows = slice | NDArray[Any]


class Part(Request):
    """Some rows of a larger request."""

    reported = False

    def __init__(self, whole: Whole, index: int, rows: Rows) -> None:
        request = whole.request
        self.owner = whole
        self.index = index
        self.columns = {name: array[rows] for name, array in request.columns.items()}
        self.rows = len(next(iter(self.columns.values())))
        self.nbytes = request.nbytes * self.rows // request.rows
        self.arrived = request.arrived
        self.deadline = request.deadline
        self.key = request.key
        self.background = request.background

    def succeed(self, outputs: Columns) -> None:
        self.owner.part_succeeded(self, outputs)

    def fail(self, error: ForwardpassError) -> None:
        self.owner.part_failed(error)


class Whole:
    """Collects the answers to the parts of one request."""

    def __init__(self, scheduler: Scheduler, request: Request) -> None:
        self.scheduler = scheduler
        self.request = request
        self._order, cuts = _cut(scheduler, request)
        self.parts = [Part(self, index, rows) for index, rows in enumerate(cuts)]
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
            joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
            if self._order is not None:
                places = np.argsort(self._order)
                joined = {name: array[places] for name, array in joined.items()}
            succeed(self.request, joined)
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
    """Queue a request in parts, each of rows that should run as one batch.

    Raises what ``Scheduler.submit`` raises, before any part is queued.
    """
    scheduler.admit(request)
    for part in Whole(scheduler, request).parts:
        scheduler.enqueue(part)


def _cut(scheduler: Scheduler, request: Request) -> tuple[NDArray[Any] | None, list[Rows]]:
    """The rows of each part, and their order where it is not the request's own."""
    if not scheduler.ragged:
        size = scheduler.room_for(request)
        return None, [slice(start, start + size) for start in range(0, request.rows, size)]
    former = scheduler.slack.beside if request.background else scheduler.former
    lengths = row_lengths(request.columns, scheduler.ragged)
    order = np.argsort(lengths, kind="stable")
    longest = lengths[order].tolist()
    cuts: list[Rows] = []
    start = 0
    for row in range(1, request.rows):
        if former.why_not(row - start, longest[row - 1], 1, longest[row]) is not None:
            cuts.append(order[start:row])
            start = row
    return order, [*cuts, order[start:]]
