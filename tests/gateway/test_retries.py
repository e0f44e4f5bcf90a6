"""How many tries again the batches of late pay for."""

from __future__ import annotations

import pytest

from forwardpass.gateway.retries import OF_LATE, RetryBudget


def test_no_share_allows_no_try() -> None:
    budget = RetryBudget(0.0)
    for _ in range(2 * OF_LATE):
        budget.batch()
    assert not budget.take()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_a_burst_gets_the_share_of_the_last_batches_and_then_each_batch_pays(share: float) -> None:
    budget = RetryBudget(share)
    burst = sum(budget.take() for _ in range(2 * OF_LATE))
    assert burst == pytest.approx(share * OF_LATE)
    tries = 0
    for _ in range(1000):
        budget.batch()
        tries += budget.take()
    assert tries == pytest.approx(1000 * share, abs=1)


def test_quiet_times_save_no_more_than_a_burst() -> None:
    budget = RetryBudget(0.1)
    for _ in range(100 * OF_LATE):
        budget.batch()
    assert sum(budget.take() for _ in range(100)) == 10
