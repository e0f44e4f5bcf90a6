"""What every threshold gives: the share of rows below it, and the accuracy when those are asked of the large model.

    confidences, who is right ─► Curve ─► the threshold that is wanted

Thresholds lie midway between confidences, so that rounding moves no row; none is above 1, so that rows of confidence 1
are never asked about. Knows no intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forwardpass.errors import InvalidInput
from forwardpass.types import Array

NEVER, ALWAYS = 0.0, 1.0  # thresholds that no confidence is below, and that all are but certainty


@dataclass(frozen=True)
class Curve:
    """From never asking to asking about all that is not certain: ``thresholds`` rise, and with them ``shares``."""

    thresholds: Array
    shares: Array
    accuracies: Array

    def within(self, share: float) -> int:
        """The best accuracy with at most this share escalated; of equals the fewest rows."""
        inside = int(np.searchsorted(self.shares, share + 1e-9, side="right"))
        return int(np.argmax(self.accuracies[:inside]))

    def reaching(self, accuracy: float) -> int:
        """The fewest rows with at least this accuracy. Raises ``InvalidInput`` saying what can be reached."""
        enough = np.flatnonzero(self.accuracies >= accuracy - 1e-9)
        if not len(enough):
            best = int(np.argmax(self.accuracies))
            raise InvalidInput(
                f"--target-accuracy {100 * accuracy:.4g} % cannot be reached: the most on the rows that choose is "
                f"{100 * self.accuracies[best]:.2f} %, with {100 * self.shares[best]:.1f} % of rows escalated. "
                "Aim lower, or take a better large model"
            )
        return int(enough[0])


def create_curve(sure: Array, small_right: Array, large_right: Array) -> Curve:
    """``sure`` are confidences [rows], the others whether each model's answer is right."""
    levels, level = np.unique(sure, return_inverse=True)
    below = np.concatenate([[0], np.cumsum(np.bincount(level))])
    gained = np.bincount(level, large_right.astype(np.float64) - small_right)
    accuracies = (small_right.sum() + np.concatenate([[0], np.cumsum(gained)])) / len(sure)
    between = (levels[:-1] + levels[1:]) / 2
    between = np.where(between > levels[:-1], between, levels[1:])  # neighbouring numbers have nothing between
    thresholds = np.concatenate([[NEVER], between, [ALWAYS]])
    reached = len(thresholds) if levels[-1] < ALWAYS else len(thresholds) - 1
    return Curve(thresholds[:reached], below[:reached] / len(sure), accuracies[:reached])
