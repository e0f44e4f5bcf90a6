"""Plans of an open loop: pure functions."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.errors import InvalidInput
from forwardpass.loadtest.arrivals import Arrivals, plan


def test_even_arrivals() -> None:
    assert plan(4, 1.0, Arrivals.EVEN).tolist() == [0, 0.25, 0.5, 0.75]
    assert len(plan(3, 1.5, Arrivals.EVEN)) == 5


def test_poisson_arrivals_have_their_rate_and_their_spread() -> None:
    times = plan(1000, 50, Arrivals.POISSON, seed=3)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(50_000, rel=0.02)
    assert (gaps >= 0).all()
    assert times[-1] < 50
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert np.mean(gaps > 0.001) == pytest.approx(np.exp(-1), abs=0.01)


def test_a_seed_is_a_plan() -> None:
    assert (plan(100, 2, seed=1) == plan(100, 2, seed=1)).all()
    assert plan(100, 2, seed=1)[0] != plan(100, 2, seed=2)[0]


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_no_rate(rate: float, seconds: float) -> None:
    with pytest.raises(InvalidInput, match="above 0"):
        plan(rate, seconds)
