"""Calibration error and quantiles, against plain loops; and what weights mean: rows that are there more than once."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.optimize.cascade.scores import BINS, CalibrationError, Mean, Quantile


def test_calibration_error_is_the_mean_gap_over_bins() -> None:
    random = np.random.default_rng(0)
    sure, right = random.random(300), (random.random(300) < 0.6).astype(float)
    expected = 0.0
    for number in range(BINS):
        inside = (sure >= number / BINS) & (sure < (number + 1) / BINS)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert CalibrationError().score((right, sure)) == pytest.approx(expected)


def test_a_confidence_of_one_has_a_bin() -> None:
    assert CalibrationError().score((np.array([1.0, 0.0]), np.array([1.0, 1.0]))) == pytest.approx(0.5)


def test_confidence_that_means_what_it_says_has_none() -> None:
    sure = np.full(10, 0.9)
    assert CalibrationError().score((np.array([1.0] * 9 + [0.0]), sure)) == pytest.approx(0)


@pytest.mark.parametrize("metric", [CalibrationError(), Mean(), Quantile(0.5), Quantile(0.99)])
def test_a_weight_of_two_is_a_row_that_is_there_twice(metric: Mean | CalibrationError) -> None:
    random = np.random.default_rng(1)
    right, values = (random.random(50) < 0.5).astype(float), random.random(50)
    weights = random.integers(0, 4, 50)
    repeated = np.repeat(np.arange(50), weights)
    [weighted] = metric.scores((right, values), weights[None].astype(float))
    assert weighted == pytest.approx(metric.score((right[repeated], values[repeated])))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_those_of_numpy(share: float) -> None:
    values = np.random.default_rng(2).random(101)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert Quantile(share).score((values, values)) == expected
