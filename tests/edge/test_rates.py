"""What the agent says of its last minute, against records and a clock that are handed in."""

from __future__ import annotations

from typing import Any, cast

import pytest

from forwardpass.edge.rates import GOLDEN, Rates
from forwardpass.types import Outcome, Record


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(
    seconds: float = 0.01,
    outcome: Outcome = Outcome.OK,
    rows: int = 2,
    model: str = "m",
    door: str = "http",
    version: str = "1",
) -> Record:
    return Record("", model, version, door, outcome, 0.0, rows, 0, 0, seconds, 0.0, 0.0, 0.0, 0.0, 0.0, 1)


def test_rates_are_of_the_last_minute() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.write([record(9.0)] * 600)
    clock.now += 61.0
    rates.write([record(n / 1000) for n in range(1, 101)])
    rates.write([record(outcome=Outcome.BACKEND_FAILED)] * 20)
    minute = rates.last_minute()
    assert minute.predictions == pytest.approx(100 / 60)
    assert minute.rows == pytest.approx(200 / 60)
    assert minute.errors == pytest.approx(20 / 60)
    assert (minute.p50, minute.p99) == (0.05, 0.099)
    assert (rates.predictions, rates.rows, rates.errors) == (700, 1400, 20)


def test_rates_just_after_the_start_are_of_the_time_since() -> None:
    clock = Clock()
    rates = Rates(clock)
    assert rates.last_minute().p99 is None
    clock.now += 10.0
    rates.write([record()] * 50)
    assert rates.last_minute().predictions == pytest.approx(5.0)


def test_rates_above_what_is_remembered_are_right() -> None:
    clock = Clock()
    rates = Rates(clock)
    for _ in range(60):
        rates.write([record()] * 1000)
        clock.now += 1.0
    assert rates.last_minute().predictions == pytest.approx(1000.0, rel=0.15)


def test_health_is_of_one_version_in_the_last_minute_and_forgives_what_is_not_its_fault() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.write([record(outcome=Outcome.BACKEND_FAILED)])
    clock.now += 61.0
    rates.write([record(), record(), record(outcome=Outcome.BACKEND_FAILED), record(outcome=Outcome.TIMED_OUT)])
    rates.write([record(outcome=Outcome.CANCELLED), record(outcome=Outcome.OVERLOADED), record(9.0, model="other")])
    rates.write([record(outcome=Outcome.INVALID_INPUT)] * 9)
    rates.write([record(outcome=Outcome.BACKEND_FAILED, version="2")] * 9)  # taken back for it, a moment ago
    health = rates.health("m", "1")
    assert (health.predictions, health.errors) == (4, 2)
    assert rates.errors == 23


@pytest.mark.parametrize("door", [GOLDEN, "cascade", "deferred"])
def test_what_the_agent_asks_by_itself_is_nobodys_prediction(door: str) -> None:
    rates = Rates(Clock())
    rates.write([record(door=door)])
    assert rates.predictions == 0
    assert rates.last_minute().p50 is None


def test_bodies_that_cannot_be_read_are_not_in_the_last_minute() -> None:
    rates = Rates(Clock())
    rates.write([record(), record(outcome=Outcome.INVALID_INPUT, rows=0)])
    assert rates.errors == 1
    assert rates.last_minute().errors == 0


class Behind:
    ready = True


def test_what_the_version_before_answered_is_no_error() -> None:
    """What timed out it has no time for, and it answers only while it is there."""
    rates, behind = Rates(Clock()), Behind()
    rates.behind = {("m", "2"): cast(Any, behind)}
    failed = record(outcome=Outcome.BACKEND_FAILED, version="2")
    rates.write([failed, record(version="1"), failed, record(outcome=Outcome.BACKEND_FAILED, version="1")])
    assert (rates.predictions, rates.errors, rates.last_minute().errors) == (1, 1, 1.0)
    rates.write([record(outcome=Outcome.TIMED_OUT, version="2")])
    behind.ready = False
    rates.write([failed])
    assert rates.errors == 3
