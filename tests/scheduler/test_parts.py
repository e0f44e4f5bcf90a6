"""Oversized requests: every row back in its place, one answer, one report."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scheduler.loop import World, bad

from forwardpass.config import Limits
from forwardpass.errors import Overloaded, TooLarge
from forwardpass.scheduler.scheduler import TICK
from forwardpass.types import Outcome


@settings(max_examples=80, deadline=None)
@given(st.data(), st.lists(st.integers(0, 70), min_size=1, max_size=12), st.integers(1, 16), st.integers(1, 3))
def test_every_row_comes_back_to_its_owner(data: st.DataObject, sizes: list[int], most: int, replicas: int) -> None:
    world = World(Limits(max_batch_size=most), replicas=replicas)
    asked = [world.submit(rows) for rows in sizes]
    world.loop.turn()
    while running := [replica for replica in world.replicas if replica.batch is not None]:
        data.draw(st.sampled_from(running)).finish()  # batches come back in any order
        world.loop.turn()
    assert all(request.right for request in asked)
    assert sorted(map(id, world.observed)) == sorted(map(id, asked))
    assert all(len(rows) <= most for replica in world.replicas for rows in replica.ran)
    assert (world.scheduler.queued_rows, world.scheduler.queued_bytes) == (0, 0)


def test_the_last_part_shares_its_batch() -> None:
    world = World(Limits(max_batch_size=4), replicas=1)
    large, small = world.ask(6, 2)
    world.finish_all()
    assert world.replicas[0].ran == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert large.right
    assert small.right


def test_the_first_part_that_fails_fails_the_whole_and_the_rest_does_not_run() -> None:
    world = World(Limits(max_batch_size=4), replicas=1)
    (large,) = world.ask(16)
    world.replicas[0].finish()
    world.replicas[0].finish({0: bad("part two")})
    world.replicas[0].finish()  # part three was on its way already
    assert [error.message for error in large.errors] == ["part two"]
    assert large.ends == 1
    assert len(world.replicas[0].ran) == 3
    assert world.observed == [large]
    assert (world.scheduler.queued_rows, world.scheduler.queued_bytes) == (0, 0)


def test_cancelling_the_whole_takes_its_parts_out_of_the_queue() -> None:
    world = World(Limits(max_batch_size=4), replicas=1)
    (large,) = world.ask(16)
    world.scheduler.cancel(large)
    world.replicas[0].finish()
    assert len(world.replicas[0].ran) == 1
    assert (large.ends, large.outcome) == (1, Outcome.CANCELLED)
    assert world.observed == [large]
    assert not world.scheduler.busy


def test_the_whole_times_out_once() -> None:
    world = World(Limits(max_batch_size=4), replicas=1)
    large = world.submit(16, timeout=1.0)
    world.loop.advance(0.5)
    world.replicas[0].finish()
    world.loop.advance(0.5 + TICK)
    assert (large.ends, large.outcome) == (1, Outcome.TIMED_OUT)
    assert world.observed == [large]
    world.replicas[0].finish()
    assert not world.scheduler.busy


def test_it_is_admitted_as_a_whole_or_not_at_all() -> None:
    world = World(Limits(max_batch_size=4, max_queue_size=20))
    world.ask(10)
    with pytest.raises(Overloaded):
        world.submit(11)
    assert world.scheduler.queued_rows == 10
    with pytest.raises(TooLarge):
        world.submit(21)
    assert world.submit(10).ends == 0
    assert world.scheduler.queued_rows == 20


def test_parts_survive_a_replica_that_dies() -> None:
    world = World(Limits(max_batch_size=4), replicas=2)
    (large,) = world.ask(11)
    world.replicas[0].die()
    world.finish_all()
    assert large.right
    assert world.observed == [large]
