"""How sure an answer is: the formulas by hand, temperatures, and values that are no probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from forwardpass.pipeline.confidence import confidence, flaw


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_of_a_probability_per_class_it_is_the_largest_of_the_softmax(temperature: float) -> None:
    rows = [[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [1 / 3, 1 / 3, 1 / 3]]
    powers = [[p ** (1 / temperature) for p in row] for row in rows]
    expected = [max(row) / sum(row) for row in powers]
    np.testing.assert_allclose(confidence(np.array(rows, np.float32), temperature), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_of_one_probability_it_is_that_of_the_likelier_class(shape: tuple[int, ...], temperature: float) -> None:
    rows = [0.02, 0.5, 0.7]
    likelier = [1 / (1 + math.exp(-math.log(p / (1 - p)) / temperature)) for p in (0.98, 0.5, 0.7)]
    np.testing.assert_allclose(confidence(np.array(rows).reshape(shape), temperature), likelier, rtol=1e-6)


def test_two_classes_give_the_same_by_one_number_and_by_two() -> None:
    high = np.linspace(0, 1, 11)
    both = confidence(np.stack([1 - high, high], axis=1), 1.7)
    np.testing.assert_allclose(confidence(high, 1.7), both)


def test_certainty_and_nothing_are_finite() -> None:
    rows = np.array([[1, 0, 0], [0, 0, 0], [1e-40, 1, 0]], np.float32)
    for temperature in (0.05, 1.0, 20.0):
        sure = confidence(rows, temperature)
        assert np.isfinite(sure).all()
        assert (sure >= 1 / 3 - 1e-9).all()
        assert (sure <= 1).all()


def test_what_is_no_number_is_never_sure() -> None:
    rows = np.array([[0.9, 0.1], [np.nan, 0.1], [0.8, np.nan]])
    assert confidence(rows).tolist() == [pytest.approx(0.9), 0, 0]
    assert confidence(np.array([np.nan, 0.9])).tolist() == [0, pytest.approx(0.9)]


def test_no_rows_are_no_confidences() -> None:
    assert confidence(np.empty((0, 3))).shape == (0,)
    assert confidence(np.empty(0)).shape == (0,)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (np.array([[0.2, 0.8], [0.5, 0.5]], np.float32), None),
        (np.array([0.2, 0.9], np.float32), None),
        (np.array([[0.2, 0.8], [np.nan, np.nan]]), None),
        (np.array([[-1.5, 4.0]]), "it holds -1.5 to 4, and a probability is between 0 and 1"),
        (np.array([[0.6, 0.2], [0.5, 0.5]]), "its values do not sum to 1 in each row"),
        (np.array([1, 0]), "its values are int64, and probabilities are floats"),
        (np.array(["a", "b"], object), "its values are texts, and probabilities are floats"),
        (np.full((2, 2, 2), 0.5), "its values are of shape [2, 2] a row, and must be one number or"),
    ],
)  # fmt: skip
def test_what_is_no_probability_is_said(column: Any, reason: str | None) -> None:
    found = flaw(column)
    assert found is None if reason is None else found is not None and found.startswith(reason)
