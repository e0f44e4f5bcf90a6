"""Intervals of paired differences: their coverage, their width, and the rows that a gate needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwardpass.optimize.bootstrap import Interval, paired_drop, rows_needed, rows_to_decide, score_interval
from forwardpass.optimize.metric import METRICS, Pair
from forwardpass.types import Array

ACCURACY, RMSE = METRICS["accuracy"], METRICS["rmse"]


def pair(right: Array) -> Pair:
    return np.array(["1"] * len(right)), np.where(right, "1", "0")


def test_the_same_answers_differ_by_nothing() -> None:
    right = np.arange(50) % 3 > 0
    assert paired_drop(ACCURACY, pair(right), pair(right)) == Interval(0.0, 0.0, 0.0)


def test_an_interval_is_as_wide_as_theory_says() -> None:
    """Of 2,000 rows the candidate loses 40 and wins 20: a drop of 1 point, with a variance of (p - d²) / n."""
    rows, lost, won = 2000, 40, 20
    parent, candidate = np.ones(rows, bool), np.ones(rows, bool)
    candidate[:lost] = False
    parent[lost : lost + won] = False
    drop = paired_drop(ACCURACY, pair(parent), pair(candidate))
    assert drop.value == pytest.approx(0.01)
    width = 1.96 * np.sqrt(((lost + won) / rows - 0.01**2) / rows)
    assert drop.low == pytest.approx(0.01 - width, abs=0.1 * width)
    assert drop.high == pytest.approx(0.01 + width, abs=0.1 * width)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        candidate = draw.random(300) > 0.1  # the parent is always right: the true drop is 0.1
        drop = paired_drop(ACCURACY, pair(np.ones(300, bool)), pair(candidate), resamples=400)
        assert drop.low is not None
        assert drop.high is not None
        held += drop.low <= 0.1 <= drop.high
    assert 180 <= held <= 199


def test_pairing_makes_a_small_difference_sure() -> None:
    """What is hard for both models does not blur their difference."""
    draw = np.random.default_rng(0)
    truth, error = draw.standard_normal(400), draw.standard_normal(400)
    drop = paired_drop(RMSE, (truth, truth + error), (truth, truth + 1.02 * error))
    assert drop.low == pytest.approx(0.02, abs=1e-9)
    assert drop.high == pytest.approx(0.02, abs=1e-9)
    alone = score_interval(RMSE, (truth, truth + error))
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high - alone.low > 0.1


def test_answers_that_are_no_numbers_have_no_interval() -> None:
    truth = np.arange(5.0)
    assert paired_drop(RMSE, (truth, truth), (truth, truth * np.nan)) == Interval(None, None, None)


def test_rows_that_a_gate_needs() -> None:
    assert rows_needed(ACCURACY, 0.005) == 1537  # 1.96² · 0.01 / 0.005²
    assert rows_needed(ACCURACY, 0.01) == 385
    assert rows_needed(ACCURACY, 0.1) == 100
    assert rows_needed(RMSE, 0.005) == 100


@given(st.floats(0.001, 0.1), st.floats(0.001, 0.1), st.floats(0.0001, 0.2))
def test_more_rows_are_asked_for_only_where_they_would_help(allowed: float, value: float, half: float) -> None:
    needed = rows_to_decide(Interval(value, value - half, value + half), 1000, allowed)
    assert (needed is None) == (value >= allowed)
    if needed is not None:
        assert value + half * np.sqrt(1000 / needed) <= allowed + 1e-9
