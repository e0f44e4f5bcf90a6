"""The one place where a request that has ended becomes a ``Record``, handed to all sinks.

Sinks (metrics, and later drift and the ledger) are given by the command line; nothing here knows
what they do with records.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from forwardpass.scheduler import Request
from forwardpass.server.served import ServedModel, clock
from forwardpass.types import Outcome, Record


class Sink(Protocol):
    """Takes records, some at a time; must not block and must not raise."""

    def write(self, records: Sequence[Record]) -> None: ...


class Recorder:
    """Makes the records of ended requests."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def __call__(self, served: ServedModel, requests: Sequence[Request]) -> None:
        now, at = clock(), time.time()
        records = [record(served, request, now, at) for request in requests]
        for sink in self._sinks:
            sink.write(records)


def record(served: ServedModel, request: Request, now: float, at: float) -> Record:
    """The facts of one ended request; ``now`` is a reading of ``clock``, ``at`` of the wall clock."""
    batch = request.batch
    times = batch.times if batch is not None else None
    started = request.started
    outcome = request.outcome or Outcome.INTERNAL
    queue = (now if started is None else started) - request.arrived
    if batch is None or times is None:
        return Record(
            request.id, served.name, served.version, request.door, outcome, at, request.rows, request.bytes_in,
            request.bytes_out, now - request.arrived, queue, 0.0, 0.0, 0.0, 0.0, 0,
        )  # fmt: skip
    whole = request.whole
    compute = _share(request) if whole is None else sum(map(_share, whole.parts))
    return Record(
        request.id, served.name, served.version, request.door, outcome, at, request.rows, request.bytes_in,
        request.bytes_out, now - request.arrived, queue, times.preprocess, times.forward, times.postprocess,
        compute, batch.rows,
    )  # fmt: skip


def _share(request: Request) -> float:
    """Seconds of a worker that fall to a request, by its share of the rows of its batch."""
    batch = request.batch
    return (batch.finished - batch.started) * request.rows / (batch.rows or 1) if batch is not None else 0.0
