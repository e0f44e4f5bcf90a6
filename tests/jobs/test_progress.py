"""Rows, rate and the time to go, from what parts report; the clock is passed in."""

from __future__ import annotations

from forwardpass.jobs.ledger import PartResult
from forwardpass.jobs.progress import Progress


def result(rows: int, rejected: int = 0) -> PartResult:
    return PartResult(rows, rows - rejected, rejected, 0, "", 0, 1.0, 0.5)


def test_rate_and_time_to_go_are_of_this_run() -> None:
    now = 100.0
    progress = Progress(1000, 10, lambda: now)
    progress.already(result(400))
    assert (progress.snapshot().rows_done, progress.snapshot().rate, progress.snapshot().remaining) == (400, 0.0, None)
    progress.begin()
    now += 2.0
    progress.rows_of(4, 50)
    seen = progress.snapshot()
    assert (seen.rows_done, seen.rate, seen.remaining, seen.parts_done) == (450, 25.0, 22.0, 1)
    now += 2.0
    progress.done(4, result(100, rejected=3))
    seen = progress.snapshot()
    assert (seen.rows_done, seen.rate, seen.rejected, seen.parts_done) == (500, 25.0, 3, 2)


def test_a_part_that_is_lost_counts_no_more() -> None:
    progress = Progress(100, 2, lambda: 1.0)
    progress.begin()
    progress.rows_of(0, 30)
    progress.lost(0, for_good=False)
    assert (progress.snapshot().rows_done, progress.snapshot().parts_failed) == (0, 0)
    progress.lost(1, for_good=True)
    assert progress.snapshot().parts_failed == 1
