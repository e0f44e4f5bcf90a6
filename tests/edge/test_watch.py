"""Whether a new version is well, by numbers and a clock that is handed in."""

from __future__ import annotations

import pytest

from forwardpass.edge.watch import Health, Limits, Verdict, Watch

LIMITS = Limits(seconds=60.0, predictions=20, crashes=0, more_errors=0.05, p99=0.5)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_that_is_well_is_kept_when_the_time_is_over(clock: Clock) -> None:
    watch = Watch(Health(), LIMITS, clock)
    well = Health(predictions=1000, errors=10, p99=0.4)
    assert watch.verdict(well) is Verdict.UNDECIDED
    clock.now += 59.0
    assert watch.rest == pytest.approx(1.0)
    assert watch.verdict(well) is Verdict.UNDECIDED
    clock.now += 1.0
    assert watch.verdict(well) is Verdict.KEEP
    assert watch.reason == ""


def test_one_that_nobody_asked_is_kept(clock: Clock) -> None:
    watch = Watch(Health(100), LIMITS, clock)
    clock.now += 60.0
    assert watch.verdict(Health()) is Verdict.KEEP


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (Health(crashes=1), "its worker died once"),
        (Health(predictions=20, errors=2), "10.0% of 20 predictions failed (5.0% allowed)"),
        (Health(predictions=20, p99=0.51), "510.0 ms (500.0 ms allowed)"),
    ],
)
def test_one_that_is_not_well_is_taken_back_at_once(clock: Clock, now: Health, reason: str) -> None:
    watch = Watch(Health(), LIMITS, clock)
    assert watch.verdict(now) is Verdict.REVERT
    assert reason in watch.reason


def test_few_predictions_say_nothing_about_errors_and_times(clock: Clock) -> None:
    assert Watch(Health(), LIMITS, clock).verdict(Health(19, 19, p99=9.0)) is Verdict.UNDECIDED


def test_one_too_slow_to_be_asked_often_is_taken_back_at_the_end(clock: Clock) -> None:
    watch = Watch(Health(), LIMITS, clock)
    clock.now += 60.0
    assert watch.verdict(Health(predictions=3, errors=1, p99=9.0)) is Verdict.REVERT
    assert "took up to 9000.0 ms" in watch.reason


def test_one_that_failed_the_few_that_asked_is_taken_back_at_the_end(clock: Clock) -> None:
    watch = Watch(Health(), LIMITS, clock)
    assert watch.verdict(Health(predictions=3, errors=3)) is Verdict.UNDECIDED
    clock.now += 60.0
    assert watch.verdict(Health(predictions=3, errors=1)) is Verdict.KEEP
    assert watch.verdict(Health(predictions=3, errors=3)) is Verdict.REVERT


def test_errors_are_judged_against_those_of_before(clock: Clock) -> None:
    watch = Watch(Health(predictions=100, errors=30), LIMITS, clock)
    assert watch.verdict(Health(predictions=100, errors=35)) is Verdict.UNDECIDED
    assert watch.verdict(Health(predictions=100, errors=36)) is Verdict.REVERT
