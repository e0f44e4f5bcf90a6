"""How far a job has come: rows, rate and the time it still takes, from what its parts report.

Clocks are passed in. Knows no terminal; ``cli`` shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from forwardpass.jobs.ledger import PartResult
from forwardpass.jobs.manifest import Totals


class Snapshot(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """The state of a job. ``rate`` is rows per second of this run; ``remaining`` seconds, None while unknown."""

    rows_done: int
    rows: int
    rejected: int
    parts_done: int
    parts: int
    parts_failed: int
    rate: float
    remaining: float | None


class Progress:
    """Adds up what is told."""

    def __init__(self, rows: int, parts: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows, self.parts = rows, parts
        self.totals = Totals()
        self.failed = 0
        self._clock = clock
        self._running: dict[int, int] = {}
        self._started: float | None = None
        self._before = 0

    def already(self, result: PartResult) -> None:
        """A part that an earlier run did."""
        self.totals.add(result)
        self._before += result.rows

    def begin(self) -> None:
        """Parts are being done from now on."""
        self._started = self._clock()

    def rows_of(self, number: int, rows: int) -> None:
        self._running[number] = rows

    def done(self, number: int, result: PartResult) -> None:
        self._running.pop(number, None)
        self.totals.add(result)

    def lost(self, number: int, for_good: bool) -> None:
        self._running.pop(number, None)
        self.failed += for_good

    def snapshot(self) -> Snapshot:
        done = self.totals.rows + sum(self._running.values())
        passed = self._clock() - self._started if self._started is not None else 0.0
        rate = (done - self._before) / passed if passed > 0 else 0.0
        remaining = (self.rows - done) / rate if rate > 0 else None
        totals = self.totals
        return Snapshot(done, self.rows, totals.rejected, totals.parts, self.parts, self.failed, rate, remaining)
