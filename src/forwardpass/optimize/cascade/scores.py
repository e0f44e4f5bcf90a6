"""What the bootstrap weighs beside accuracy: calibration error, and times.

As metrics: pairs and weightings of rows in, one score per weighting out. Knows no model.
"""

from __future__ import annotations

import numpy as np

from forwardpass.optimize.metric import Metric, Pair
from forwardpass.types import Array

BINS = 15  # of equal width, as in Guo et al. 2017


class CalibrationError(Metric):
    """Expected calibration error: how far confidence is from the share of right answers, over bins of confidence.

    A pair is whether each answer is right, and its confidence. Few rows make it look larger than it is.
    """

    name = "calibration_error"
    relative = True

    def pair(self, labels: Array, column: Array) -> Pair:
        return labels.astype(np.float64), column

    def scores(self, pair: Pair, weights: Array) -> Array:
        right, sure = pair
        table = (self._bins(sure)[:, np.newaxis] == np.arange(BINS)) * (right - sure)[:, np.newaxis]
        apart: Array = np.abs(weights @ table).sum(axis=1) / weights.sum(axis=1)
        return apart

    def losses(self, pair: Pair) -> Array:
        apart: Array = np.abs(pair[0] - pair[1])
        return apart

    def _bins(self, sure: Array) -> Array:
        return np.minimum((sure * BINS).astype(np.int64), BINS - 1)


class Mean(Metric):
    """The mean of numbers; the first of a pair is not looked at."""

    name = "mean"

    def pair(self, labels: Array, column: Array) -> Pair:
        return labels, column.astype(np.float64)

    def scores(self, pair: Pair, weights: Array) -> Array:
        means: Array = (weights @ pair[1]) / weights.sum(axis=1)
        return means

    def losses(self, pair: Pair) -> Array:
        return pair[1]


class Quantile(Mean):
    """The least number that at least this share of the rows do not exceed."""

    def __init__(self, share: float) -> None:
        self.name = f"p{100 * share:g}"  # type: ignore[misc]
        self._share = share

    def scores(self, pair: Pair, weights: Array) -> Array:
        order = np.argsort(pair[1], kind="stable")
        sums = np.cumsum(weights[:, order], axis=1)
        places = (sums < self._share * sums[:, -1:] - 1e-9).sum(axis=1)
        found: Array = pair[1][order][places]
        return found
