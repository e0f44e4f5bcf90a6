"""Requests whose deadline has passed are found, and the others are not kept for long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scheduler.loop import Asked

from forwardpass.scheduler import Request
from forwardpass.scheduler.deadlines import COMPACT_AT, Deadlines


def asked(deadline: float, done: bool = False) -> Asked:
    request = Asked(0, 1, 0.0, deadline)
    request.done = done
    return request


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=40))
def test_each_is_found_once_and_in_time(requests: list[tuple[int, bool]]) -> None:
    deadlines = Deadlines()
    all_ = [asked(float(at), done) for at, done in requests]
    for request in all_:
        deadlines.add(request)
    found: list[Request] = []
    for now in range(21):
        for late in deadlines.passed(float(now)):
            late.done = True
            found.append(late)
            assert late.deadline == now
    assert len(found) == sum(not done for _, done in requests)
    assert len(deadlines) == 0


def test_those_behind_a_slow_one_are_let_go() -> None:
    kept(lambda number: 30.0)


def test_so_are_those_with_a_timeout_of_their_own() -> None:
    kept(lambda number: 20.0 - number * 1e-6)


def kept(deadline: Callable[[int], float]) -> None:
    deadlines = Deadlines()
    slow = [asked(5.0), asked(30.0), asked(5.0)]  # the last one goes to the heap, and stays on top of it
    for request in slow:
        deadlines.add(request)
    for number in range(2 * COMPACT_AT):
        deadlines.add(asked(deadline(number), done=True))
    late = asked(40.0)
    deadlines.add(late)
    watched = weakref.ref(late)
    assert list(deadlines.passed(1.0)) == []
    assert len(deadlines) == 4
    assert list(deadlines.passed(6.0)) == [slow[0], slow[2]]
    late.done = True
    del late
    list(deadlines.passed(50.0))
    gc.collect()
    assert watched() is None


def test_compaction_drops_no_request_that_waits() -> None:
    deadlines = Deadlines()
    waiting = [asked(float(10 + number % 7)) for number in range(3 * COMPACT_AT)]
    for request in waiting:
        deadlines.add(request)
    assert list(deadlines.passed(1.0)) == []
    assert {id(request) for request in deadlines.passed(20.0)} == {id(request) for request in waiting}
