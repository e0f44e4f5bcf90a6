"""The circuit breaker, by a clock that is set by hand."""

from __future__ import annotations

from forwardpass.gateway.breaker import (
    AT_LEAST,
    FIRST_REST,
    IN_A_ROW,
    LONGEST_REST,
    Breaker,
    BreakerState,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def state(breaker: Breaker) -> BreakerState:
    return breaker.state


def tried(breaker: Breaker, *outcomes: bool) -> None:
    for good in outcomes:
        assert breaker.allows()
        breaker.begin()
        (breaker.succeeded if good else breaker.failed)()


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    tried(breaker, *[False] * IN_A_ROW)
    return breaker


def test_failures_in_a_row_open_it_and_one_less_does_not() -> None:
    breaker = Breaker(Clock())
    tried(breaker, *[False] * (IN_A_ROW - 1), True, *[False] * (IN_A_ROW - 1))
    assert state(breaker) is BreakerState.CLOSED
    tried(breaker, False)
    assert state(breaker) is BreakerState.OPEN
    assert not breaker.allows()
    assert breaker.opened == 1


def test_a_share_of_failures_opens_it_though_no_two_follow_each_other() -> None:
    breaker = Breaker(Clock())
    tried(breaker, *[False, True] * (AT_LEAST // 2 - 1), True)
    assert state(breaker) is BreakerState.CLOSED
    tried(breaker, False)
    assert state(breaker) is BreakerState.OPEN


def test_after_a_while_one_probe_goes_through_and_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_REST - 0.01
    assert not breaker.allows()
    clock.now += 0.02
    assert state(breaker) is BreakerState.HALF_OPEN
    breaker.begin()
    assert not breaker.allows()  # one at a time
    breaker.succeeded()
    assert state(breaker) is BreakerState.CLOSED
    tried(breaker, *[False] * (IN_A_ROW - 1))
    assert state(breaker) is BreakerState.CLOSED  # it counts anew


def test_each_probe_that_fails_makes_it_rest_twice_as_long_up_to_a_limit() -> None:
    clock = Clock()
    breaker = opened(clock)
    rest = FIRST_REST
    for _ in range(8):
        clock.now += rest + 0.01
        tried(breaker, False)
        assert state(breaker) is BreakerState.OPEN
        rest = min(LONGEST_REST, 2 * rest)
        clock.now += rest - 0.02
        assert not breaker.allows()
        clock.now += 0.02 - rest
    assert rest == LONGEST_REST


def test_a_probe_given_up_lets_another_go() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_REST
    breaker.begin()
    breaker.abandoned()
    assert state(breaker) is BreakerState.HALF_OPEN
    tried(breaker, True)
    assert state(breaker) is BreakerState.CLOSED


def test_what_ends_late_neither_opens_nor_closes_it() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    breaker.begin()
    tried(breaker, *[False] * IN_A_ROW)
    breaker.succeeded()  # the one begun before
    assert state(breaker) is BreakerState.OPEN
    breaker.failed()
    clock.now += FIRST_REST
    assert state(breaker) is BreakerState.HALF_OPEN


def test_a_sign_of_life_ends_the_rest() -> None:
    breaker = opened(Clock())
    breaker.probe_now()
    assert state(breaker) is BreakerState.HALF_OPEN
    assert breaker.allows()
