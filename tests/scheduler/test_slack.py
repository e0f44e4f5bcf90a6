"""Requests of the background: they run while no other waits, in batches too short to hold one up."""

from __future__ import annotations

import pytest
from tests.scheduler.loop import Asked, World

from forwardpass.config import Limits
from forwardpass.errors import NotReady, Overloaded, TooLarge
from forwardpass.scheduler import Reason
from forwardpass.scheduler.slack import BESIDE, QUIET
from forwardpass.types import StageTimes


def behind(world: World, *sizes: int) -> list[Asked]:
    """Requests of the background, submitted in one turn."""
    asked = [world.submit(rows, background=True) for rows in sizes]
    world.loop.turn()
    return asked


def test_they_run_when_nothing_else_waits() -> None:
    world = World(replicas=1)
    asked = behind(world, 2, 3)
    assert world.replicas[0].ran == [[0, 1, 2, 3, 4]]
    world.finish_all()
    assert all(request.right for request in asked)
    assert world.scheduler.reasons == {Reason.SLACK: 1}


def test_whoever_waits_goes_first_however_late_it_came() -> None:
    world = World(Limits(max_batch_size=2), replicas=1)
    world.ask(1)
    waiting = behind(world, 2, 2)
    live = world.ask(1, 1, 1)
    world.finish_all()
    assert world.replicas[0].ran == [[0], [5, 6], [7], [1, 2], [3, 4]]
    assert all(request.right for request in (*waiting, *live))


def test_they_never_share_a_batch_with_others() -> None:
    world = World(replicas=1)
    world.ask(1)
    behind(world, 1)
    world.ask(1)
    world.finish_all()
    assert world.replicas[0].ran == [[0], [2], [1]]


def test_beside_live_requests_their_batches_are_short_and_alone_as_large_as_any() -> None:
    world = World(Limits(max_batch_size=64, max_batch_time=1.0), replicas=1)
    cost = BESIDE / 10  # of a batch, and of each row
    world.teach(start=cost, per_row=cost)
    replica = world.replicas[0]

    def finish() -> int:
        """The batch that runs ends; rows of the next."""
        replica.finish(times=StageTimes(0.0, cost * (1 + len(replica.ran[-1])), 0.0))
        world.loop.turn()
        return len(replica.ran[-1])

    world.ask(1)
    behind(world, *[1] * 100)
    short = BESIDE / cost - 1
    assert finish() == pytest.approx(short, abs=1)
    assert finish() == pytest.approx(short, abs=1)
    world.loop.advance(QUIET + 0.1)
    assert finish() == 64


def test_where_a_row_takes_long_one_runs_at_a_time() -> None:
    world = World(Limits(max_batch_size=64, max_batch_time=1.0), replicas=1)
    world.teach(start=0.0, per_row=0.05)
    world.ask(1)
    asked = behind(world, 3)
    world.finish_all()
    assert world.replicas[0].ran == [[0], [1], [2], [3]]
    assert asked[0].right


def test_their_queue_is_bounded_by_itself() -> None:
    world = World(Limits(max_queue_size=4))
    behind(world, 4)
    with pytest.raises(Overloaded, match="the background's queue is full: 4 rows wait"):
        world.submit(1, background=True)
    with pytest.raises(TooLarge):
        world.submit(5, background=True)
    world.ask(4)
    assert (world.scheduler.queued_rows, world.scheduler.slack.rows) == (4, 4)


def test_they_end_by_their_deadline_by_cancelling_and_by_the_end_of_all() -> None:
    world = World()
    late = world.submit(1, timeout=0.1, background=True)
    left = world.submit(2, background=True)
    last = world.submit(3, background=True)
    world.loop.advance(0.2)
    assert late.errors
    world.scheduler.cancel(left)
    assert world.scheduler.slack.rows == 3
    world.scheduler.stop(NotReady("stopped"))
    assert [request.ends for request in (late, left, last)] == [1, 1, 1]
    assert not world.scheduler.busy
