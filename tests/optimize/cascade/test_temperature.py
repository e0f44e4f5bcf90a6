"""Temperatures: the one that made a model too sure is found, and the search finds the bottom of a valley."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.optimize.cascade.temperature import (
    HIGHEST,
    LOWEST,
    fit_temperature,
    golden_section,
    negative_log_likelihood,
)
from forwardpass.pipeline.confidence import confidence
from forwardpass.types import Array


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


@pytest.mark.parametrize("sharpened", [0.4, 1.0, 3.0])
def test_what_made_a_model_too_sure_is_taken_back(sharpened: float) -> None:
    """Classes are drawn from the true probabilities, and the model states those sharpened."""
    random = np.random.default_rng(0)
    scores = 2 * random.standard_normal((20_000, 4))
    classes = (scores + random.gumbel(size=scores.shape)).argmax(axis=1)  # draws from the softmax
    stated = softmax(sharpened * scores)
    temperature = fit_temperature(stated, stated.argmax(axis=1) == classes)
    assert temperature == pytest.approx(sharpened, rel=0.06)


def test_one_probability_of_two_classes_as_well() -> None:
    random = np.random.default_rng(1)
    scores = 2 * random.standard_normal(20_000)
    classes = random.random(20_000) < 1 / (1 + np.exp(-scores))
    stated = 1 / (1 + np.exp(-2 * scores))
    assert fit_temperature(stated, (stated > 0.5) == classes) == pytest.approx(2, rel=0.06)


def test_it_is_the_likeliest_of_all() -> None:
    random = np.random.default_rng(2)
    stated = softmax(5 * random.standard_normal((500, 3)))
    right = random.random(500) < 0.7
    best = fit_temperature(stated, right)
    least = negative_log_likelihood(confidence(stated, best), right)
    for temperature in np.geomspace(LOWEST, HIGHEST, 200):
        assert least <= negative_log_likelihood(confidence(stated, float(temperature)), right) + 1e-6


def test_a_model_that_is_always_right_stays_within_bounds() -> None:
    stated = softmax(np.random.default_rng(3).standard_normal((200, 3)))
    assert LOWEST <= fit_temperature(stated, np.ones(200, bool)) <= 1.1 * LOWEST


def test_golden_section_finds_the_bottom() -> None:
    assert golden_section(lambda x: (x - 1.2345) ** 2, -3, 4) == pytest.approx(1.2345, abs=1e-4)
    assert golden_section(lambda x: x, 0, 1) == pytest.approx(0, abs=1e-4)
