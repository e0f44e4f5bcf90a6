"""The one place where a request that has ended becomes a ``Record``, handed to all sinks.

Sinks (metrics, and later drift and the ledger) are given by the command line; nothing here knows
what they do with records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from forwardpass.scheduler import Request
from forwardpass.server.served import ServedModel, clock
from forwardpass.types import Outcome, Record

WAIT = 0.05  # seconds until records are made
MOST = 1024  # batches that wait for it
LARGE = 64 * 1024  # bytes of a request that is not kept until then


class Sink(Protocol):
    """Takes records, some at a time; must not block and must not raise."""

    def write(self, records: Sequence[Record]) -> None: ...


class Recorder:
    """Makes the records of ended requests, of many at a time.

    A record made right after its answer is sent costs five times as much as one of many made in a
    row, because sending has filled the processor's caches with other things. So ended requests
    wait up to ``WAIT`` seconds; ``flush`` makes their records now, and whoever reads sinks calls it.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.call_later: Callable[[float, Callable[[], None]], object] | None = None  # None: nothing waits
        self._sinks = tuple(sinks)
        self._ended: list[tuple[ServedModel, Sequence[Request], float, float]] = []

    def __call__(self, served: ServedModel, requests: Sequence[Request]) -> None:
        """These requests have ended, together."""
        ended = self._ended
        ended.append((served, requests, clock(), time.time()))
        if self.call_later is None or len(ended) >= MOST or requests[0].bytes_in > LARGE:
            self.flush()
        elif len(ended) == 1:
            self.call_later(WAIT, self.flush)

    def add(self, sink: Sink) -> None:
        """Hand records to this sink too, from now on."""
        self._sinks = (*self._sinks, sink)

    def flush(self) -> None:
        """Make the records of all requests that have ended."""
        ended, self._ended = self._ended, []
        for served, requests, now, at in ended:
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
    if served.composed is not None:
        compute = 0.0  # others computed, and have records of it
    else:
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
