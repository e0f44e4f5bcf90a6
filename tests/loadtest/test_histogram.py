"""Percentiles to one percent, and sums of histograms that are the histogram of all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwardpass.loadtest import Histogram

durations = st.lists(st.floats(1e-8, 1e5), min_size=1, max_size=200)


@given(durations, st.floats(0.1, 100))
def test_percentiles_are_within_one_percent(values: list[float], percent: float) -> None:
    rank = max(1, math.ceil(len(values) * percent / 100 - 1e-9))
    exact = sorted(values)[rank - 1]
    assert Histogram(values).percentile(percent) == pytest.approx(exact, rel=0.01)


@given(durations, durations)
def test_merged_is_the_histogram_of_all(first: list[float], second: list[float]) -> None:
    merged, whole = Histogram(first), Histogram([*first, *second])
    merged.merge(Histogram(second))
    assert merged.buckets == whole.buckets
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.sum == pytest.approx(whole.sum)


@given(durations)
def test_the_curve_rises_to_the_maximum(values: list[float]) -> None:
    curve = Histogram(values).curve()
    assert curve == sorted(curve)
    assert curve[-1] == (100.0, max(values))


def test_an_empty_one() -> None:
    empty, one = Histogram(), Histogram([0.25])
    assert empty.percentile(99) == empty.max == empty.mean == 0.0
    assert empty.curve() == []
    one.merge(empty)
    empty.merge(one)
    assert empty.summary() == one.summary() == Histogram([0.25]).summary()
    assert one.min == 0.25


def test_nothing_is_too_small() -> None:
    assert Histogram([0.0, 1e-12]).max == 1e-12
