"""Thresholds: each gives exactly the share and the accuracy that the curve says, and the wanted one is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.errors import InvalidInput
from forwardpass.optimize.cascade.curve import create_curve
from forwardpass.types import Array

ROWS = st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.7, 0.9, 1.0]) | st.floats(0, 1), st.booleans(), st.booleans()),
                min_size=1, max_size=40)  # fmt: skip


def columns(rows: list[tuple[float, bool, bool]]) -> tuple[Array, Array, Array]:
    sure, small, large = zip(*rows, strict=True)
    return np.array(sure), np.array(small, bool), np.array(large, bool)


@settings(deadline=None)
@given(ROWS)
def test_every_threshold_gives_what_the_curve_says(rows: list[tuple[float, bool, bool]]) -> None:
    sure, small, large = columns(rows)
    curve = create_curve(sure, small, large)
    for threshold, share, accuracy in zip(curve.thresholds, curve.shares, curve.accuracies, strict=True):
        escalated = sure < threshold
        assert escalated.mean() == pytest.approx(share)
        assert np.where(escalated, large, small).mean() == pytest.approx(accuracy)
    assert (curve.shares[0], curve.shares[-1]) == (0, pytest.approx((sure < 1).mean())), "certainty is not asked about"
    assert curve.thresholds[-1] <= 1
    assert (np.diff(curve.thresholds) >= 0).all()


@settings(deadline=None)
@given(ROWS, st.floats(0, 1))
def test_within_a_share_none_is_better(rows: list[tuple[float, bool, bool]], share: float) -> None:
    curve = create_curve(*columns(rows))
    at = curve.within(share)
    allowed = curve.accuracies[curve.shares <= share]
    assert curve.shares[at] <= share + 1e-9
    assert curve.accuracies[at] >= allowed.max() - 1e-9


@settings(deadline=None)
@given(ROWS, st.floats(0, 1))
def test_an_accuracy_is_reached_with_the_fewest_rows_or_said_to_be_out_of_reach(
    rows: list[tuple[float, bool, bool]], target: float
) -> None:
    curve = create_curve(*columns(rows))
    if curve.accuracies.max() < target - 1e-9:
        with pytest.raises(InvalidInput, match="cannot be reached"):
            curve.reaching(target)
    else:
        at = curve.reaching(target)
        assert curve.accuracies[at] >= target - 1e-9
        assert (curve.accuracies[:at] < target).all()


def test_what_can_be_reached_is_said() -> None:
    sure = np.array([0.4, 0.5, 0.8, 0.9])
    curve = create_curve(sure, np.array([False, False, True, True]), np.array([True, True, True, False]))
    with pytest.raises(InvalidInput) as error:
        create_curve(sure, np.array([False, False, True, True]), np.zeros(4, bool)).reaching(0.9)
    assert error.value.message == (
        "--target-accuracy 90 % cannot be reached: the most on the rows that choose is 50.00 %, with 0.0 % of rows "
        "escalated. Aim lower, or take a better large model"
    )
    assert curve.thresholds[curve.reaching(1.0)] == pytest.approx(0.65), "midway between sure and unsure"
    assert curve.within(0.25) == 1
    assert curve.within(1.0) == 2, "asking always would lose the last row"
