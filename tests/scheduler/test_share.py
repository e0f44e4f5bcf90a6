"""What waits in each front, in memory that all of them see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.workers import Awaited

from forwardpass.config import Limits
from forwardpass.errors import NotReady, Overloaded
from forwardpass.scheduler import Scheduler
from forwardpass.scheduler.share import CELL_BYTES, CELLS, QueueShare


def shares(fronts: int) -> list[QueueShare]:
    cells = memoryview(bytearray(b"\xff" * fronts * CELLS * CELL_BYTES)).cast("q")
    return [QueueShare(cells, front) for front in range(fronts)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**40), st.integers(0, 2**50)), max_size=30))
def test_each_sees_the_sum_of_the_others(told: Sequence[tuple[int, int, int]]) -> None:
    all_of_them = shares(4)
    last = dict.fromkeys(range(4), (0, 0))
    for front, rows, nbytes in told:
        all_of_them[front].tell(rows, nbytes)
        last[front] = rows, nbytes
    for front, share in enumerate(all_of_them):
        others = [last[other] for other in range(4) if other != front]
        assert share.elsewhere() == (sum(rows for rows, _ in others), sum(nbytes for _, nbytes in others))


def test_a_front_that_begins_has_nothing_that_waits() -> None:
    first, _ = shares(2)
    assert first.elsewhere() == (0, 0)
    cells = memoryview(bytearray(2 * CELLS * CELL_BYTES)).cast("q")
    QueueShare(cells, 1).tell(7, 8)
    again = QueueShare(cells, 0)
    assert again.elsewhere() == (7, 8)
    QueueShare(cells, 1)
    assert again.elsewhere() == (0, 0)


def request(rows: int = 1) -> Awaited:
    made = Awaited({"x": np.zeros((rows, 1), np.float32)}, 20.0)
    made.nbytes = 10 * rows
    return made


def test_two_schedulers_keep_one_limit_and_tell_of_every_way_out_of_the_queue() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limits = Limits(max_queue_size=3, max_queue_bytes=1000)
        both = shares(2)
        one, other = (Scheduler(limits, True, perf_counter, loop, share=share) for share in both)
        first, second = request(), request()
        one.submit(first)
        other.submit(second)
        one.submit(request())
        assert (both[0].elsewhere(), both[1].elsewhere()) == ((1, 10), (2, 20))
        for scheduler in (one, other):
            with pytest.raises(Overloaded, match="3 rows wait, at most 3 may"):
                scheduler.submit(request())
        one.cancel(first)
        assert both[1].elsewhere() == (1, 10)
        other.submit(request())
        one.stop(NotReady("gone"))
        assert both[1].elsewhere() == (0, 0)
        other.submit(request())
        with pytest.raises(Overloaded):
            other.submit(request())
        other.stop(NotReady("gone"))
        assert both[0].elsewhere() == (0, 0)

    asyncio.run(main())


def test_bytes_are_limited_as_rows_are() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        both = shares(2)
        one, other = (Scheduler(Limits(max_queue_bytes=45), True, perf_counter, loop, share=share) for share in both)
        one.submit(request(3))
        with pytest.raises(Overloaded, match="30 bytes wait, at most 45 may"):
            other.submit(request(2))
        other.submit(request(1))
        for scheduler in (one, other):
            scheduler.stop(NotReady("gone"))

    asyncio.run(main())
