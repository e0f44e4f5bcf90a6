"""What a cascade may spend: a share of the rows of late, and money in a day."""

from __future__ import annotations

import random

import pytest

from forwardpass.config import EscalationConfig
from forwardpass.gateway.budget import DAY, WINDOW, EscalationBudget


class Clock:
    now = 10 * DAY

    def __call__(self) -> float:
        return self.now


def budget(clock: Clock | None = None, **keys: float) -> EscalationBudget:
    return EscalationBudget(EscalationConfig(confidence="p", threshold=0.9, **keys), clock or Clock())  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_the_share_holds_over_the_last_thousand_rows(share: float) -> None:
    """In every run of whole requests of a thousand rows at most, when each row would like to go."""
    chance = random.Random(3)
    spends = budget(max_share=share)
    seen: list[tuple[int, int]] = []
    for _ in range(3000):
        rows = chance.choice([1, 1, 2, 7, 64])
        seen.append((rows, spends.share(rows, chance.randint(0, rows))))
    for start in range(0, len(seen), 7):
        rows = escalated = 0
        for count, granted in seen[start:]:
            if rows + count > WINDOW:
                break
            rows, escalated = rows + count, escalated + granted
        assert escalated <= share * WINDOW
    if share:
        assert sum(granted for _, granted in seen) > 0.8 * min(share, 0.5) * sum(rows for rows, _ in seen)


def test_a_request_larger_than_the_window_gets_its_own_share() -> None:
    spends = budget(max_share=0.2)
    assert spends.share(5000, 5000) == 1000
    assert spends.share(1, 1) == 0
    assert spends.share(WINDOW - 1, 0) == 0
    assert spends.share(1, 1) == 1


def test_rows_not_seen_yet_count_as_not_escalated() -> None:
    spends = budget(max_share=0.01)
    assert [spends.share(1, 1) for _ in range(12)] == [1] * 10 + [0, 0]


def test_the_money_of_a_day_is_not_exceeded_and_comes_back_at_midnight() -> None:
    clock = Clock()
    spends = budget(clock, price=0.3, max_cost_per_day=1.0)
    assert spends.pay(2) == 2
    assert spends.pay(5) == 1
    assert spends.pay(1) == 0
    assert spends.spent == pytest.approx(0.9)
    clock.now += DAY - 1
    assert spends.pay(1) == 0
    clock.now += 1
    assert spends.spent == 0.0
    assert spends.pay(5) == 3


def test_a_clock_that_jumps_back_begins_another_day() -> None:
    clock = Clock()
    spends = budget(clock, price=1.0, max_cost_per_day=1.0)
    assert spends.pay(3) == 1
    clock.now -= 400 * DAY
    assert spends.pay(3) == 1


def test_what_was_not_asked_about_is_paid_back() -> None:
    spends = budget(price=0.1, max_cost_per_day=0.3)  # sums of tenths are not exact
    assert spends.pay(3) == 3
    spends.refund(2)
    assert spends.pay(9) == 2


@pytest.mark.parametrize(("price", "most"), [(0.0, 0.0), (1.0, None)])
def test_without_a_price_or_a_limit_money_stops_nothing(price: float, most: float | None) -> None:
    spends = budget(price=price, max_cost_per_day=most)  # type: ignore[arg-type]
    assert spends.pay(10_000) == 10_000
    assert spends.spent == price * 10_000
