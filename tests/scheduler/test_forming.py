"""Who leaves with whom: likes with likes where it pays, nobody starved, and why each batch left."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scheduler.loop import Asked, World

from forwardpass.config import Limits
from forwardpass.scheduler import Reason, Request
from forwardpass.scheduler.cost import CostModel
from forwardpass.scheduler.forming import EXPLORE, Former, Taken

START, PER_PADDED = 0.002, 0.00005  # seconds; a text of 40 characters takes as long as its start


def text_cost() -> CostModel:
    """The curve of a text encoder."""
    cost = CostModel()
    for rows in (1, 2, 4, 8):
        for length in (10, 40, 160):
            cost.learn(rows, START + PER_PADDED * rows * length, length)
    return cost


def former(limits: Limits | None = None, cost: CostModel | None = None, *, ragged: bool = True) -> Former:
    return Former(limits or Limits(), cost or text_cost(), batched=True, ragged=ragged)


def waiting(*lengths: int, rows: int = 1) -> deque[Request]:
    queue: deque[Request] = deque()
    for number, length in enumerate(lengths):
        request = Asked(number, rows)
        request.length = length
        queue.append(request)
    return queue


def lengths(taken: Taken) -> list[int]:
    return [request.length for request in taken.requests]


def test_texts_of_like_length_leave_together_and_the_others_keep_their_order() -> None:
    queue = waiting(20, 400, 22, 390, 18, 410)
    taken = former().take(queue, 0.0)
    assert lengths(taken) == [20, 22, 18]
    assert taken.longest == 22
    assert [request.length for request in queue] == [400, 390, 410]


def test_the_one_that_has_waited_longest_always_leaves() -> None:
    queue = waiting(1000, *[10] * 100)
    assert lengths(former().take(queue, 0.0)) == [1000]


def test_a_batch_of_long_texts_is_short_in_rows() -> None:
    limits = Limits(max_batch_time=0.05)
    taken = former(limits).take(waiting(*[20] * 40), 0.0)
    assert taken.rows == 32
    assert taken.reason is Reason.FULL
    taken = former(limits).take(waiting(*[37] * 40), 0.0)
    assert taken.rows == int((0.05 - START) / (37 * PER_PADDED))
    assert taken.reason is Reason.TIME


def test_what_does_not_pay_runs_alone_and_says_why() -> None:
    taken = former().take(waiting(1000, 1000), 0.0)
    assert lengths(taken) == [1000]
    assert taken.reason in (Reason.COST, Reason.TIME)


def test_a_model_that_gains_nothing_by_batches_runs_single_rows() -> None:
    cost = CostModel()
    for rows in (1, 2, 4, 8):
        cost.learn(rows, 0.0015 + 0.025 * rows)
    taken = former(Limits(max_batch_time=1.0), cost, ragged=False).take(waiting(0, 0, 0), 0.0)
    assert taken.rows == 1
    assert taken.reason is Reason.COST


@pytest.mark.parametrize("ragged", [True, False])
def test_now_and_then_it_tries_whether_more_would_pay(ragged: bool) -> None:
    cost = CostModel()
    for rows in (1, 2, 4, 8):
        cost.learn(rows, 0.0001 + 0.01 * rows)
    chosen = former(cost=cost, ragged=ragged)
    sizes = [chosen.take(waiting(0, 0, 0, 0), 0.0).rows for _ in range(EXPLORE + 2)]
    assert sizes == [1] * EXPLORE + [4, 1]


def test_what_is_done_or_late_is_not_taken() -> None:
    queue = waiting(20, 21, 22, 23)
    queue[0].done = True
    queue[2].deadline = 1.0
    taken = former().take(queue, 2.0)
    assert lengths(taken) == [21, 23]
    assert [request.length for request in taken.late] == [22]


def test_other_shapes_are_passed_and_so_are_other_lengths() -> None:
    queue = waiting(20, 21, 400, 22)
    queue[1].key = "other"
    taken = former().take(queue, 0.0)
    assert lengths(taken) == [20, 22]
    assert [(request.length, request.passed) for request in queue] == [(21, 1), (400, 1)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 600), min_size=1, max_size=80),
    st.lists(st.lists(st.integers(1, 600), max_size=6), max_size=60),
    st.integers(1, 16),
)
def test_nobody_starves(first: list[int], later: list[list[int]], most: int) -> None:
    """A request leaves after at most as many batches as requests stood before it, and is passed by at
    most ``max_batch_size`` rows and one batch more, however many come later."""
    chosen, queue = former(Limits(max_batch_size=most)), waiting(*first)
    before = {id(request): place for place, request in enumerate(queue)}
    arrivals, batches = iter(later), 0
    while queue:
        taken = chosen.take(queue, 0.0)
        batches += 1
        for request in taken.requests:
            assert batches <= before[id(request)] + 1
            assert request.passed < 2 * most
        for length in next(arrivals, []):
            asked = Asked(0)
            asked.length = length
            before[id(asked)] = batches + len(queue)
            queue.append(asked)


def test_the_whole_way_of_texts_through_the_scheduler() -> None:
    world = World(Limits(max_batch_size=8), ragged=("text",))
    world.teach(START, 0.0, PER_PADDED)
    asked = []
    for size in (300, 10, 310, 12, 11):
        request = world.request()
        request.columns = {**request.columns, "text": np.array(["x" * size], object)}
        asked.append(request)
        world.scheduler.submit(request)
    world.attach()
    world.finish_all()
    assert world.replicas[0].ran == [[0], [1, 3, 4], [2]]
    assert all(request.right for request in asked)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=2, max_size=60))
def test_the_rows_of_one_request_are_sorted_by_length_and_answered_in_their_order(sizes: list[int]) -> None:
    world = World(Limits(max_batch_size=8, max_batch_time=0.02), ragged=("text",))
    world.teach(START, 0.0, PER_PADDED)
    request = world.request(len(sizes))
    texts = np.empty(len(sizes), object)
    texts[:] = ["x" * size for size in sizes]
    request.columns = {**request.columns, "text": texts}
    world.submit_request(request)
    replica = world.attach()
    while replica.batch is not None:
        batch = replica.batch
        seconds = START + PER_PADDED * batch.rows * batch.length
        assert batch.rows == 1 or batch.rows == len(sizes) or seconds <= 0.02 + 1e-9
        world.loop.advance(seconds)
        replica.finish()
        world.loop.turn()
    assert request.right
    assert sorted(row for rows in replica.ran for row in rows) == list(range(len(sizes)))
