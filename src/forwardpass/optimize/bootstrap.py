"""How sure a difference between two models is: a paired bootstrap over the held-out rows.

Rows are drawn with replacement, the same draw for both models, so that what is hard for both does not blur their
difference (Efron and Tibshirani 1993, chapter 13: percentile intervals). Knows metrics only by their scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from forwardpass.optimize.metric import Metric, Pair
from forwardpass.types import Array

RESAMPLES = 2000
SEED = 5
Z = 1.96  # of a 95 % interval
DISAGREEMENT = 0.01  # share of rows that even a good candidate may answer otherwise than its parent
LEAST_ROWS = 100  # for metrics whose spread is not known before they are measured
_CELLS = 2_000_000  # weights that are held at once


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval. None: not a finite number."""

    value: float | None
    low: float | None
    high: float | None


def paired_drop(metric: Metric, parent: Pair, candidate: Pair, resamples: int = RESAMPLES) -> Interval:
    """The candidate's drop against its parent on the same rows."""
    if np.array_equal(parent[1], candidate[1]):
        return Interval(0.0, 0.0, 0.0)
    every = np.ones((1, len(parent[0])))
    value = metric.drops(metric.scores(parent, every), metric.scores(candidate, every))[0]
    drops = [
        metric.drops(metric.scores(parent, weights), metric.scores(candidate, weights))
        for weights in _weights(len(parent[0]), resamples)
    ]
    return _interval(float(value), np.concatenate(drops))


def score_interval(metric: Metric, pair: Pair, resamples: int = RESAMPLES) -> Interval:
    """One model's score."""
    scores = np.concatenate([metric.scores(pair, weights) for weights in _weights(len(pair[0]), resamples)])
    return _interval(metric.score(pair), scores)


def rows_needed(metric: Metric, max_drop: float) -> int:
    """Held-out rows from which a gate at this allowance can pass a candidate that differs in one row of a hundred.

    The difference of two accuracies on n rows has a variance of at most p / n, where p is the share of rows on which
    the two disagree; the interval's half-width z √(p / n) must not exceed the allowance.
    """
    if not metric.counts_rows:
        return LEAST_ROWS
    return max(LEAST_ROWS, math.ceil(round(Z**2 * DISAGREEMENT / max_drop**2, 6)))


def rows_to_decide(drop: Interval, rows: int, max_drop: float) -> int | None:
    """Held-out rows at which the interval would likely be below the allowance; None where the drop itself is not."""
    if drop.value is None or drop.high is None or drop.value >= max_drop:
        return None
    return math.ceil(rows * ((drop.high - drop.value) / (max_drop - drop.value)) ** 2)


def _weights(rows: int, resamples: int) -> Iterator[Array]:
    """How often each row is drawn, in blocks [some resamples, rows]."""
    draw = np.random.default_rng(SEED)
    block = max(1, min(resamples, _CELLS // rows))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        places = draw.integers(0, rows, (count, rows)) + np.arange(count)[:, np.newaxis] * rows
        yield np.bincount(places.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def _interval(value: float, draws: Array) -> Interval:
    kept = draws[~np.isnan(draws)]  # a resample may lack a class
    if not len(kept) or math.isnan(value):
        return Interval(None, None, None)
    low, high = np.percentile(kept, [2.5, 97.5], method="inverted_cdf")
    numbers = [number if math.isfinite(number) else None for number in (value, float(low), float(high))]
    return Interval(*numbers)
