"""One record for each request, however it ended, with numbers that add up."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.scheduler.loop import Asked, FakeReplica, World, bad

from forwardpass.config import Limits
from forwardpass.errors import ForwardpassError, NotReady, Overloaded, TooLarge
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Scheduler
from forwardpass.scheduler.scheduler import TICK
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel, State, clock
from forwardpass.types import Outcome, Record, StageTimes


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, records: Sequence[Record]) -> None:
        self.records.extend(records)


class Counter(World):
    """A data plane with one model on a fake replica, and its records; time is the real one."""

    def __init__(self, limits: Limits | None = None, replicas: int = 1) -> None:
        super().__init__()
        self.kept = Kept()
        self.dataplane = DataPlane(Recorder((self.kept,)))
        self.served = ServedModel(ModelLocation("digits", "7", Path("digits")))
        observe = functools.partial(self.dataplane.recorder, self.served)
        self.scheduler = Scheduler(limits or Limits(max_batch_size=8), True, clock, self.loop, observe)
        self.served.scheduler, self.served.state = self.scheduler, State.READY
        self.started = clock()
        for _ in range(replicas):
            self.attach()

    def infer(self, rows: int, timeout: float = 30.0) -> Asked:
        asked = Asked(0, rows, clock(), timeout)
        asked.id, asked.door, asked.bytes_in, asked.bytes_out = f"of {rows}", "http", 100, 50
        self.dataplane.infer(self.served, asked)
        return asked

    def finish(self, replica: FakeReplica, failures: dict[int, ForwardpassError] | None = None) -> None:
        time.sleep(0.002)
        replica.finish(failures, StageTimes(0.001, 0.002, 0.003))

    @property
    def only(self) -> Record:
        (record,) = self.kept.records
        assert record.total >= record.queue >= 0.0
        assert record.total <= clock() - self.started
        assert abs(record.at - time.time()) < 5.0
        assert (record.model, record.version, record.door, record.bytes_in) == ("digits", "7", "http", 100)
        return record


def test_an_answer() -> None:
    counter = Counter()
    counter.infer(3)
    counter.loop.turn()
    counter.finish(counter.replicas[0])
    record = counter.only
    assert record.outcome is Outcome.OK
    assert (record.id, record.rows, record.batch_rows, record.bytes_out) == ("of 3", 3, 3, 50)
    assert (record.preprocess, record.forward, record.postprocess) == (0.001, 0.002, 0.003)
    assert 0.002 <= record.compute <= record.total


def test_a_batch_is_shared_out_by_rows() -> None:
    counter = Counter()
    for rows in (1, 3, 2):
        counter.infer(rows)
    counter.loop.turn()
    counter.finish(counter.replicas[0], {1: bad()})
    records = counter.kept.records
    assert [record.outcome for record in records] == [Outcome.OK, Outcome.BACKEND_FAILED, Outcome.OK]
    assert {record.batch_rows for record in records} == {6}
    held = sum(record.compute for record in records)
    assert [record.compute for record in records] == pytest.approx([held / 6, held / 2, held / 3])
    assert 0.002 <= held <= records[0].total


def test_an_oversized_request_counts_all_its_batches() -> None:
    counter = Counter()
    counter.infer(20)
    counter.loop.turn()
    for _ in range(3):
        counter.finish(counter.replicas[0])
    record = counter.only
    assert (record.outcome, record.rows) == (Outcome.OK, 20)
    assert 0.006 <= record.compute <= record.total, "three batches of two milliseconds and more, and no time twice"


def test_a_deadline_that_passes_in_the_queue() -> None:
    counter = Counter(replicas=0)
    counter.infer(2, timeout=0.001)
    time.sleep(0.002)
    counter.loop.advance(TICK)
    record = counter.only
    assert record.outcome is Outcome.TIMED_OUT
    assert record.total == record.queue >= 0.002
    assert (record.compute, record.batch_rows) == (0.0, 0)


def test_a_deadline_that_passes_while_it_runs() -> None:
    counter = Counter()
    counter.infer(2, timeout=0.001)
    counter.loop.turn()
    time.sleep(0.002)
    counter.loop.advance(TICK)
    counter.finish(counter.replicas[0])
    record = counter.only
    assert record.outcome is Outcome.TIMED_OUT
    assert record.total > record.queue


def test_a_client_that_leaves() -> None:
    counter = Counter()
    gone = counter.infer(2)
    counter.loop.turn()
    counter.scheduler.cancel(gone)
    counter.finish(counter.replicas[0])
    assert counter.only.outcome is Outcome.CANCELLED


def test_workers_that_die() -> None:
    counter = Counter()
    counter.infer(2)
    counter.loop.turn()
    counter.replicas[0].die()
    counter.attach().die()
    counter.attach().die()
    assert counter.only.outcome is Outcome.BACKEND_FAILED


def test_a_model_that_is_unloaded() -> None:
    counter = Counter(replicas=0)
    counter.infer(2)
    counter.scheduler.stop(NotReady("unloaded"))
    assert counter.only.outcome is Outcome.NOT_READY


@pytest.mark.parametrize(
    ("limits", "rows", "error", "outcome"),
    [
        (Limits(max_queue_size=10), 11, TooLarge, Outcome.TOO_LARGE),
        (Limits(max_queue_size=10, max_batch_size=4), 11, TooLarge, Outcome.TOO_LARGE),
        (Limits(max_queue_bytes=10), 2, Overloaded, Outcome.OVERLOADED),
    ],
)
def test_what_is_refused_is_recorded_as_well(
    limits: Limits, rows: int, error: type[ForwardpassError], outcome: Outcome
) -> None:
    counter = Counter(limits)
    with pytest.raises(error):
        counter.infer(rows)
    counter.loop.advance(1.0)
    assert counter.only.outcome is outcome
    assert counter.only.compute == 0.0


def test_a_model_that_is_not_ready() -> None:
    counter = Counter()
    counter.served.state, counter.served.reason = State.LOADING, "loading"
    with pytest.raises(NotReady, match="'digits' version 7 is not ready: loading"):
        counter.infer(1)
    assert counter.only.outcome is Outcome.NOT_READY
