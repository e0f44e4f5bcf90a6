"""A request that kills workers ends up alone and fails alone, wherever it stands."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.scheduler.loop import Asked, World

from forwardpass.config import Limits
from forwardpass.errors import BackendFailed

ROWS = 32


def run(world: World, killers: set[int]) -> int:
    """Workers run what they are given, and die of a killer's row; how many died."""
    deaths = 0
    while world.scheduler.busy:
        replica = world.replicas[-1]
        assert replica.batch is not None
        if killers & set(replica.ran[-1]):
            replica.die()
            deaths += 1
            world.attach()
        else:
            replica.finish()
        world.loop.turn()
    return deaths


def check(asked: list[Asked], killers: set[int]) -> None:
    for number, request in enumerate(asked):
        if number in killers:
            assert [type(error) for error in request.errors] == [BackendFailed]
            assert not request.answers
        else:
            assert request.right


def test_every_position_in_a_batch() -> None:
    for position in range(ROWS):
        world = World(Limits(max_batch_size=ROWS), replicas=1)
        asked = world.ask(*[1] * ROWS)
        deaths = run(world, {position})
        check(asked, {position})
        assert deaths <= 6, "halving a batch of 32 costs at most 6 workers"
        assert sorted(map(id, world.observed)) == sorted(map(id, asked))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=4), st.integers(1, ROWS))
@example(40, {0, 1, 2, 39}, ROWS)
def test_several_killers_in_several_batches(requests: int, killers: set[int], most: int) -> None:
    world = World(Limits(max_batch_size=most), replicas=1)
    asked = world.ask(*[1] * requests)
    run(world, killers)
    check(asked, {killer for killer in killers if killer < requests})
    assert len(world.observed) == requests


def test_what_comes_later_is_not_held_up_by_it() -> None:
    world = World(Limits(max_batch_size=4), replicas=1)
    asked = world.ask(1, 1, 1, 1)
    later = world.ask(1, 1)
    run(world, {2})
    check([*asked, *later], {2})
