"""The temperature with which a model's confidence means what it says: of rows at 0.9, nine of ten are right.

Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks"), fitted to whether answers are right:
what a cascade decides upon is that one probability, and texts, decisions and rejected rows count as they are answered.
Knows no threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt

import numpy as np

from forwardpass.pipeline.confidence import LEAST, confidence
from forwardpass.types import Array

LOWEST, HIGHEST = 0.05, 20.0
_GRID = 25  # places looked at first: the search needs a valley with one bottom
_PRECISION = 1e-4  # of the temperature's logarithm
_GOLDEN = (sqrt(5) - 1) / 2


def fit_temperature(probabilities: Array, right: Array) -> float:
    """The temperature under which right and wrong answers are likeliest; four digits. ``right`` is bool [rows]."""

    def loss(logarithm: float) -> float:
        return negative_log_likelihood(confidence(probabilities, exp(logarithm)), right)

    grid = np.linspace(log(LOWEST), log(HIGHEST), _GRID).tolist()
    best = int(np.argmin([loss(place) for place in grid]))
    low, high = grid[max(0, best - 1)], grid[min(_GRID - 1, best + 1)]
    return float(f"{exp(golden_section(loss, low, high)):.4g}")


def negative_log_likelihood(sure: Array, right: Array) -> float:
    """The mean of minus the logarithm of the probability given to what happened."""
    given = np.where(right, sure, 1 - sure)
    return float(-np.log(np.maximum(given, LEAST)).mean())


def golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is least (Kiefer 1953, "Sequential minimax search for a maximum")."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > _PRECISION:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
