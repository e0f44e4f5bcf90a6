"""What the queue promises: who runs with whom and when, who is refused, and that each is answered once."""

from __future__ import annotations

import pytest
from tests.scheduler.loop import Asked, World, bad

from forwardpass.config import Limits
from forwardpass.errors import (
    BackendFailed,
    Cancelled,
    ForwardpassError,
    NotReady,
    Overloaded,
    TimedOut,
    TooLarge,
)
from forwardpass.scheduler import Batch, Reason
from forwardpass.scheduler.scheduler import TICK
from forwardpass.types import Columns, Outcome

# Forming batches


def test_a_request_leaves_at_once_when_a_replica_is_idle() -> None:
    world = World(replicas=1)
    (asked,) = world.ask(3)
    replica = world.replicas[0]
    assert replica.ran == [[0, 1, 2]]
    assert world.loop.now == 0.0
    replica.finish()
    assert asked.right
    assert asked.outcome is Outcome.OK
    assert world.scheduler.reasons == {Reason.IDLE: 1}


def test_what_comes_in_one_turn_shares_a_batch() -> None:
    world = World(replicas=1)
    asked = world.ask(1, 2, 3)
    assert world.replicas[0].ran == [[0, 1, 2, 3, 4, 5]]
    world.replicas[0].finish()
    assert all(request.right for request in asked)


def test_what_waits_while_all_are_busy_leaves_together_as_soon_as_one_is_idle() -> None:
    world = World(replicas=2)
    world.ask(1)
    world.ask(1)
    asked = [*world.ask(1), *world.ask(1)]
    assert [len(replica.ran) for replica in world.replicas] == [1, 1]
    world.replicas[1].finish()
    assert world.replicas[1].ran == [[1], [2, 3]]
    world.replicas[1].finish()
    assert all(request.right for request in asked)


def test_the_next_batch_leaves_before_the_answers_are_handed_out() -> None:
    world = World(replicas=1)
    order: list[str] = []

    class Telling(Asked):
        def succeed(self, outputs: Columns) -> None:
            order.append(f"answer while {world.replicas[0].ran[-1]} runs")

    world.scheduler.submit(Telling(0))
    world.loop.turn()
    world.scheduler.submit(Telling(1))
    world.replicas[0].finish()
    assert order == ["answer while [1] runs"]


def test_a_batch_holds_at_most_max_batch_size_rows() -> None:
    world = World(Limits(max_batch_size=8), replicas=1)
    asked = world.ask(5, 3, 1, 7, 1)
    world.finish_all()
    assert [len(rows) for rows in world.replicas[0].ran] == [8, 8, 1]
    assert world.scheduler.reasons == {Reason.FULL: 2, Reason.IDLE: 1}
    assert all(request.right for request in asked)


def test_a_batch_holds_at_most_what_is_predicted_to_run_in_max_batch_time() -> None:
    world = World(Limits(max_batch_size=32, max_batch_time=0.1), replicas=1)
    world.teach(start=0.02, per_row=0.01)
    world.scheduler.reasons.clear()
    world.ask(*[1] * 20)
    assert len(world.replicas[0].ran[-1]) == 8
    assert world.scheduler.reasons == {Reason.TIME: 1}


def test_max_delay_gathers_company_while_a_replica_is_idle() -> None:
    world = World(Limits(max_delay=0.5), replicas=1)
    first = world.ask(1)
    world.loop.advance(0.25)
    second = world.ask(1)
    world.loop.advance(0.2)
    assert world.replicas[0].ran == []
    world.loop.advance(0.05)
    assert world.replicas[0].ran == [[0, 1]]
    assert world.scheduler.reasons == {Reason.DELAY: 1}
    world.replicas[0].finish()
    assert first[0].right
    assert second[0].right


def test_a_full_batch_does_not_wait_for_max_delay() -> None:
    world = World(Limits(max_delay=10.0, max_batch_size=4), replicas=1)
    for _ in range(4):
        world.ask(1)
    assert world.replicas[0].ran == [[0, 1, 2, 3]]


def test_gathering_sets_one_timer_however_often_replicas_finish() -> None:
    world = World(Limits(max_delay=0.1, max_batch_size=4), replicas=2)
    for _ in range(20):
        world.ask(4)
        world.ask(1)
        for replica in world.replicas:
            if replica.batch is not None:
                replica.finish()
    assert world.loop.timers <= 2  # one to gather, one for the deadlines


def test_requests_of_another_shape_never_share_a_batch_and_none_starves() -> None:
    world = World(Limits(max_batch_size=4), replicas=1)
    world.submit(1, key="long")
    world.loop.turn()
    odd = world.submit(1, key="odd")
    asked = [world.submit(1, key="even") for _ in range(6)]
    world.replicas[0].finish()
    assert world.replicas[0].batch is odd.batch, "the eldest goes first, however few share its shape"
    assert world.scheduler.reasons[Reason.SHAPE] == 1
    world.finish_all()
    assert world.replicas[0].ran[2:] == [[2, 3, 4, 5], [6, 7]], "in the order in which they came"
    assert odd.right
    assert all(request.right for request in asked)


def test_requests_passed_over_keep_their_order() -> None:
    world = World(Limits(max_batch_size=4), replicas=1)
    asked = [world.submit(1, key=key) for key in "abcabcabc"]
    world.loop.turn()
    world.finish_all()
    assert world.replicas[0].ran == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert all(request.right for request in asked)


def test_a_full_batch_is_full_whatever_else_waits() -> None:
    world = World(Limits(max_batch_size=2), replicas=1)
    for key in "abaa":
        world.submit(1, key=key)
    world.loop.turn()
    assert world.replicas[0].ran == [[0, 2]]
    assert world.scheduler.reasons == {Reason.FULL: 1}


def test_requests_of_a_model_without_rows_run_alone_and_whole() -> None:
    world = World(Limits(max_batch_size=2), batched=False, replicas=1)
    asked = world.ask(1, 5, 1)
    world.finish_all()
    assert world.replicas[0].ran == [[0], [1, 2, 3, 4, 5], [6]]
    assert world.scheduler.reasons == {Reason.ALONE: 3}
    assert all(request.right for request in asked)


def test_a_request_without_rows_is_answered() -> None:
    world = World(replicas=1)
    (empty,) = world.ask(0)
    world.replicas[0].finish()
    assert empty.right
    asked = world.ask(0, 2, 0)
    world.replicas[0].finish()
    assert all(request.right for request in asked)


# Admission


def test_rows_over_the_queue_are_refused_and_leave_nothing_behind() -> None:
    world = World(Limits(max_queue_size=4, max_batch_size=4))
    world.ask(3)
    with pytest.raises(Overloaded, match="3 rows wait, at most 4 may"):
        world.submit(2)
    assert world.scheduler.queued_rows == 3
    world.submit(1)


def test_bytes_over_the_queue_are_refused() -> None:
    world = World(Limits(max_queue_bytes=100))
    world.ask(10)
    with pytest.raises(Overloaded, match="80 bytes wait, at most 100 may"):
        world.submit(3)
    assert (world.scheduler.queued_rows, world.scheduler.queued_bytes) == (10, 80)


def test_a_request_that_could_never_wait_is_too_large() -> None:
    world = World(Limits(max_queue_size=4), batched=False)
    with pytest.raises(TooLarge, match="5 rows in one request; at most 4"):
        world.submit(5)


def test_what_cannot_meet_its_deadline_is_refused_at_once() -> None:
    world = World(Limits(max_batch_size=8, max_batch_time=1.0), replicas=1)
    world.teach(start=0.0, per_row=0.1)  # 0.8 s for a full batch of 8
    world.ask(8)  # runs
    world.ask(8)
    with pytest.raises(Overloaded, match="cannot be answered in time") as caught:
        world.submit(8, timeout=1.0)
    assert 0.5 < caught.value.retry_after < 5.0
    assert world.submit(8, timeout=5.0).ends == 0


@pytest.mark.parametrize("replicas", [1, 4])
def test_more_replicas_drain_the_queue_sooner(replicas: int) -> None:
    world = World(Limits(max_batch_size=8, max_batch_time=1.0), replicas=1)
    world.teach(start=0.0, per_row=0.1)
    for _ in range(replicas - 1):
        world.attach()
    for _ in range(replicas + 1):
        world.ask(8)
    assert world.scheduler.queued_rows == 8
    if replicas == 1:
        with pytest.raises(Overloaded):
            world.submit(8, timeout=1.5)
    else:
        assert world.submit(8, timeout=1.5).ends == 0


def test_the_pace_of_the_machine_counts_at_once() -> None:
    world = World(Limits(max_batch_size=8, max_batch_time=1.0), replicas=1)
    world.teach(start=0.0, per_row=0.1)
    world.ask(8)
    world.ask(8)
    assert world.submit(1, timeout=2.6).ends == 0
    for _ in range(8):  # a neighbour takes two thirds of the machine: batches take three times as long
        world.loop.advance(2.4)
        world.replicas[0].finish()
        world.ask(8)
    with pytest.raises(Overloaded):
        world.submit(1, timeout=2.6)


def test_what_runs_counts_as_work_that_waits() -> None:
    world = World(Limits(max_batch_size=8, max_batch_time=1.0), replicas=1)
    world.teach(start=0.0, per_row=0.1)
    world.ask(8)  # runs for 0.8 s
    world.ask(1)
    with pytest.raises(Overloaded):
        world.submit(1, timeout=0.9)
    world.loop.advance(0.6)
    assert world.submit(1, timeout=0.9).ends == 0


def test_a_running_batch_leaves_room_in_the_queue() -> None:
    world = World(Limits(max_queue_size=4, max_batch_size=4), replicas=1)
    world.ask(4)
    assert world.scheduler.queued_rows == 0
    world.ask(4)
    with pytest.raises(Overloaded):
        world.submit(1)


# Deadlines and cancellation


def test_a_request_that_waits_past_its_deadline_is_answered_then_and_never_runs() -> None:
    world = World()
    asked = world.submit(1, timeout=1.0)
    world.loop.advance(1.0 + TICK)
    assert isinstance(asked.errors[0], TimedOut)
    assert "1 s (still waiting)" in asked.errors[0].message
    assert asked.outcome is Outcome.TIMED_OUT
    replica = world.attach()
    assert replica.ran == []
    assert (world.scheduler.queued_rows, world.scheduler.queued_bytes) == (0, 0)
    assert world.observed == [asked]


def test_a_request_past_its_deadline_is_dropped_even_between_two_looks() -> None:
    world = World()
    asked = world.submit(1, timeout=TICK / 4)
    world.loop.advance(TICK / 2)
    world.attach()  # its own assertions fail where it is given what is too late
    assert isinstance(asked.errors[0], TimedOut)


def test_a_request_that_runs_past_its_deadline_is_answered_then_and_its_answer_dropped() -> None:
    world = World(replicas=1)
    (other,) = world.ask(1)
    world.replicas[0].finish()
    late, patient = world.submit(2, timeout=1.0), world.submit(1)
    world.loop.advance(1.0 + TICK)
    assert "still running" in late.errors[0].message
    world.replicas[0].finish()
    assert late.ends == 1
    assert patient.right
    assert world.observed == [other, late, patient]


def test_the_loop_is_left_alone_when_nothing_is_under_way() -> None:
    world = World(replicas=1)
    world.ask(1)
    world.replicas[0].finish()
    world.loop.advance(2 * TICK)
    assert world.loop.timers == 0


def test_a_cancelled_request_that_waits_never_reaches_a_replica() -> None:
    world = World()
    gone, stays = world.submit(1), world.submit(1)
    world.scheduler.cancel(gone)
    assert world.scheduler.queued_rows == 1
    replica = world.attach()
    assert replica.ran == [[1]]
    replica.finish()
    assert isinstance(gone.errors[0], Cancelled)
    assert stays.right
    assert world.observed == [gone, stays]


def test_a_cancelled_request_that_runs_is_ended_once() -> None:
    world = World(replicas=1)
    gone, stays = world.ask(1, 1)
    world.scheduler.cancel(gone)
    world.scheduler.cancel(gone)
    world.replicas[0].finish()
    assert (gone.ends, gone.outcome) == (1, Outcome.CANCELLED)
    assert stays.right
    assert world.observed == [gone, stays]


def test_cancelling_what_was_answered_changes_nothing() -> None:
    world = World(replicas=1)
    (asked,) = world.ask(1)
    world.replicas[0].finish()
    world.scheduler.cancel(asked)
    assert asked.right
    assert world.observed == [asked]


def test_an_answer_may_cancel_a_neighbour() -> None:
    world = World(replicas=1)

    class Selfish(Asked):
        def succeed(self, outputs: Columns) -> None:
            super().succeed(outputs)
            world.scheduler.cancel(other)

    selfish = Selfish(100)
    world.scheduler.submit(selfish)
    other = world.submit(1)
    world.loop.turn()
    world.replicas[0].finish()
    assert selfish.answers
    assert other.outcome is Outcome.CANCELLED
    assert sorted(map(id, world.observed)) == sorted([id(selfish), id(other)])


# What goes wrong


def test_one_bad_row_fails_only_its_own_request() -> None:
    world = World(replicas=1)
    asked = world.ask(1, 2, 3, 1)
    world.replicas[0].finish({0: bad("first"), 2: bad("third")})
    assert [request.ends for request in asked] == [1, 1, 1, 1]
    assert asked[0].errors[0].message == "first"
    assert asked[2].errors[0].message == "third"
    assert asked[1].right
    assert asked[3].right


@pytest.mark.parametrize("wrong", ["succeed", "fail"])
def test_a_request_that_cannot_take_its_answer_harms_no_other(wrong: str) -> None:
    world = World(replicas=1)

    class Broken(Asked):
        def succeed(self, outputs: Columns) -> None:
            raise ValueError("cannot encode")

        def fail(self, error: ForwardpassError) -> None:
            super().fail(error)
            raise ValueError("cannot encode that either")

    before = world.submit(1)
    broken = Broken(50)
    world.scheduler.submit(broken)
    after = world.submit(1)
    world.loop.turn()
    world.replicas[0].finish({1: bad()} if wrong == "fail" else {})
    assert before.right
    assert after.right
    assert broken.outcome is Outcome.BACKEND_FAILED
    assert "cannot encode" not in broken.errors[0].message
    assert world.observed == [before, broken, after]


def test_a_replica_that_cannot_take_a_batch_harms_no_other() -> None:
    world = World(replicas=1)
    (first,) = world.ask(1)
    refuse = True
    taken = world.replicas[0].run

    def run(batch: Batch) -> None:
        if refuse:
            raise BackendFailed("a column cannot be sent")
        taken(batch)

    world.replicas[0].run = run  # type: ignore[method-assign]
    second = world.submit(1)
    world.replicas[0].finish()
    assert first.right
    assert second.errors[0].message == "a column cannot be sent"
    refuse = False
    (third,) = world.ask(1)
    world.replicas[0].finish()
    assert third.right
    assert world.observed == [second, first, third]


def test_what_ran_on_a_replica_that_died_runs_once_more_in_halves() -> None:
    world = World(replicas=1)
    asked = world.ask(1, 1, 1)
    world.replicas[0].die()
    replica = world.attach()
    world.finish_all()
    assert replica.ran == [[0, 1], [2]]
    assert world.scheduler.reasons[Reason.RETRY] == 2
    assert all(request.right for request in asked)


def test_a_request_alone_is_tried_on_three_workers() -> None:
    world = World(replicas=1)
    (asked,) = world.ask(1)
    world.replicas[0].die()
    world.attach().die()
    assert asked.ends == 0
    world.attach().die()
    assert isinstance(asked.errors[0], BackendFailed)
    assert "killed" in asked.errors[0].message
    assert world.observed == [asked]
    assert not world.scheduler.busy


def test_what_nobody_waits_for_is_not_run_again() -> None:
    world = World(replicas=1)
    gone, late, stays = world.submit(1), world.submit(1, timeout=TICK / 4), world.submit(1)
    world.loop.turn()
    world.replicas[0].die()
    world.scheduler.cancel(gone)
    world.loop.advance(TICK / 2)
    world.attach()
    world.finish_all()
    assert gone.outcome is Outcome.CANCELLED
    assert late.outcome is Outcome.TIMED_OUT
    assert stays.right


def test_an_idle_replica_that_died_gets_nothing_more() -> None:
    world = World(replicas=2)
    world.replicas[0].die()
    world.ask(1)
    assert world.replicas[0].ran == []
    assert world.replicas[1].ran == [[0]]


def test_a_detached_replica_finishes_what_it_runs_and_takes_no_more() -> None:
    world = World(replicas=1)
    (first,) = world.ask(1)
    world.scheduler.detach(world.replicas[0])
    (second,) = world.ask(1)
    world.replicas[0].finish()
    assert first.right
    assert second.ends == 0
    assert len(world.replicas[0].ran) == 1


def test_stop_answers_all_that_waits_and_runs_and_refuses_the_rest() -> None:
    world = World(replicas=2)
    (retried,) = world.ask(1)
    world.replicas[0].die()
    running = [retried, *world.ask(1)]
    waiting = world.ask(1, 100)
    world.scheduler.stop(NotReady("unloaded"))
    for request in (*running, *waiting):
        assert [error.message for error in request.errors] == ["unloaded"]
    with pytest.raises(NotReady, match="unloaded"):
        world.submit(1)
    with pytest.raises(NotReady, match="unloaded"):
        world.submit(100)
    assert (world.scheduler.queued_rows, world.scheduler.queued_bytes) == (0, 0)
    assert len(world.observed) == 4
    world.replicas[1].finish()
    assert len(world.observed) == 4


def test_a_short_batch_takes_along_what_is_read_while_answers_are_handed_out() -> None:
    world = World(replicas=1)
    replica = world.replicas[0]
    for _ in range(5):  # the scheduler learns that a batch takes 0.1 ms
        world.submit()
        world.loop.turn()
        world.loop.now += 0.0001
        replica.finish()
    world.submit()
    world.loop.turn()
    second = world.submit()
    world.loop.now += 0.0001
    replica.finish()
    assert replica.batch is None
    third = world.submit()
    world.loop.turn()
    assert replica.batch is not None
    assert replica.batch.requests == [second, third]
