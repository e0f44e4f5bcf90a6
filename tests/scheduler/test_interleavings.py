"""Whatever happens in whatever order: each request ends once, with its own rows, and is reported once."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.scheduler.loop import Asked, FakeReplica, World, bad

from forwardpass.config import Limits
from forwardpass.errors import ForwardpassError, NotReady, Overloaded


class Interleavings(RuleBasedStateMachine):
    world: World
    asked: list[Asked]

    @initialize(most=st.integers(1, 8), delay=st.sampled_from([0.0, 0.05]), batched=st.booleans())
    def start(self, most: int, delay: float, batched: bool) -> None:
        limits = Limits(max_batch_size=most, max_delay=delay, max_queue_size=60, max_queue_bytes=400)
        self.world = World(limits, batched)
        self.asked = []

    @rule(
        rows=st.integers(0, 20),
        timeout=st.sampled_from([0.01, 0.1, 1.0, 30.0]),
        key=st.sampled_from("ab"),
        background=st.booleans(),
    )
    def submit(self, rows: int, timeout: float, key: str, background: bool) -> None:
        waited = self.waiting()
        try:
            self.asked.append(self.world.submit(rows, timeout, key, background))
        except Overloaded:
            assert self.waiting() == waited

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.world.scheduler.cancel(data.draw(st.sampled_from(self.asked)))

    @rule()
    def turn(self) -> None:
        self.world.loop.turn()

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.06, 0.5]))
    def advance(self, seconds: float) -> None:
        self.world.loop.advance(seconds)

    @precondition(lambda self: len(self.alive()) < 3)
    @rule()
    def attach(self) -> None:
        self.world.attach()

    @precondition(lambda self: self.running())
    @rule(data=st.data(), failing=st.sets(st.integers(0, 7), max_size=3))
    def finish(self, data: st.DataObject, failing: set[int]) -> None:
        replica = data.draw(st.sampled_from(self.running()))
        assert replica.batch is not None
        failures: dict[int, ForwardpassError] = {i: bad() for i in failing if i < len(replica.batch.requests)}
        replica.finish(failures)

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.alive())).die()

    @rule(stop=st.integers(0, 30))
    def stop(self, stop: int) -> None:
        if stop == 30:
            self.world.scheduler.stop(NotReady("stopped"))
            assert all(request.ends == 1 for request in self.asked)
            self.world = World(self.world.scheduler.limits, self.world.scheduler.batched)
            self.asked = []

    @invariant()
    def each_ends_at_most_once(self) -> None:
        if not hasattr(self, "world"):
            return
        assert all(request.ends <= 1 for request in self.asked)
        assert all(request.right for request in self.asked if request.answers)
        observed = sorted(id(request) for request in self.world.observed)
        assert observed == sorted(id(request) for request in self.asked if request.done)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.attach()
        for _ in range(1000):
            world.loop.advance(0.06)
            for replica in self.running():
                replica.finish()
            if not world.scheduler.busy:
                break
        self.each_ends_at_most_once()
        assert all(request.ends == 1 for request in self.asked)
        assert self.waiting() == (0, 0, 0, 0)
        world.loop.advance(31.0)
        assert world.loop.timers == 0

    def waiting(self) -> tuple[int, int, int, int]:
        """Rows and bytes in front and in the background."""
        scheduler = self.world.scheduler
        return scheduler.queued_rows, scheduler.queued_bytes, scheduler.slack.rows, scheduler.slack.bytes

    def alive(self) -> list[FakeReplica]:
        attached: Any = self.world.scheduler.replicas
        return [replica for replica in self.world.replicas if replica in attached]

    def running(self) -> list[FakeReplica]:
        return [replica for replica in self.world.replicas if replica.batch is not None]


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
