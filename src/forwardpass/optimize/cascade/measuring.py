"""What a chosen threshold costs and gains, on rows that did not choose it: each figure with its interval.

    answers, confidences, times ─► accuracy, share escalated, calibration error, latency, curve

All intervals are bootstraps of the same draws of rows, so that differences are paired. Chooses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from forwardpass.optimize.bootstrap import Interval, paired_drop, score_interval
from forwardpass.optimize.cascade.curve import create_curve
from forwardpass.optimize.cascade.pairing import Judged
from forwardpass.optimize.cascade.results import Latency, Measured, Point
from forwardpass.optimize.cascade.running import Member, time_rows
from forwardpass.optimize.cascade.scores import CalibrationError, Mean, Quantile
from forwardpass.optimize.metric import METRICS, Metric, Pair
from forwardpass.pipeline.confidence import confidence
from forwardpass.types import Array, Columns

SHARES = (0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1)  # of the curve
_Bootstrap = Callable[[Metric, Pair], Interval]
_ACCURACY, _MEAN = METRICS["accuracy"], Mean()


def measure(
    members: Sequence[Member], columns: Columns, judged: Judged, probabilities: Array, temperature: float,
    threshold: float, seconds: float, resamples: int,
) -> Measured:  # fmt: skip
    """``columns``, ``judged`` and ``probabilities`` are of the judging rows; about ``seconds`` are spent on timing."""

    def interval(metric: Metric, pair: Pair) -> Interval:
        return score_interval(metric, pair, resamples)

    sure = confidence(probabilities, temperature)
    escalated = sure < threshold
    small, large = (judged.truth, judged.small), (judged.truth, judged.large)
    cascade = judged.truth, np.where(escalated, judged.large, judged.small)
    right, apart = judged.small == judged.truth, judged.small != judged.large
    before, after = (
        interval(CalibrationError(), (right.astype(np.float64), values)) for values in (confidence(probabilities), sure)
    )
    places, times = time_rows(members, columns, seconds)
    return Measured(
        rows=len(sure),
        small_accuracy=interval(_ACCURACY, small),
        large_accuracy=interval(_ACCURACY, large),
        accuracy=interval(_ACCURACY, cascade),
        drop=paired_drop(_ACCURACY, large, cascade, resamples),
        gain=scaled(paired_drop(_ACCURACY, small, cascade, resamples), -1),
        share=interval(_MEAN, (escalated, escalated.astype(np.float64))),
        disagreement=interval(_MEAN, (apart, apart.astype(np.float64))),
        error_before=before,
        error_after=after,
        timed=len(places),
        small_latency=_latency(times[0], interval),
        large_latency=_latency(times[1], interval),
        latency=_latency(times[0] + np.where(escalated[places], times[1], 0.0), interval),
        curve=_curve(judged, sure, interval),
    )


def scaled(interval: Interval, factor: float) -> Interval:
    """Each end times a factor; the ends change places where it is negative."""
    ends = [None if end is None else end * factor for end in (interval.value, interval.low, interval.high)]
    return Interval(*ends) if factor >= 0 else Interval(ends[0], ends[2], ends[1])


def _latency(times: Array, interval: _Bootstrap) -> Latency:
    return Latency(*(interval(metric, (times, times)) for metric in (Quantile(0.5), Quantile(0.99), _MEAN)))


def _curve(judged: Judged, sure: Array, interval: _Bootstrap) -> tuple[Point, ...]:
    """Points from never asking to always asking, closer where few are escalated."""
    curve = create_curve(sure, judged.small == judged.truth, judged.large == judged.truth)
    points = []
    last = len(curve.shares) - 1
    for place in sorted({min(last, int(np.searchsorted(curve.shares, share - 1e-9))) for share in SHARES}):
        answers = np.where(sure < curve.thresholds[place], judged.large, judged.small)
        accuracy = interval(_ACCURACY, (judged.truth, answers))
        points.append(Point(float(curve.thresholds[place]), float(curve.shares[place]), accuracy))
    return tuple(points)
