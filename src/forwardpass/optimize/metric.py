"""Metrics: how good answers are against labels, over many weightings of the rows at once.

    labels, output column ─► pair(): what is compared ─► scores(pairs, weights) ─► one score per weighting

The weights are how often each row was drawn, so that a bootstrap is a few matrix products. A *drop* is positive where
the candidate is worse: in points for shares (accuracy, f1, auc, r2), relative to the parent for errors (mae, rmse,
log_loss). Knows no model and no gate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from forwardpass.errors import InvalidInput, nearest
from forwardpass.optimize import answers
from forwardpass.types import Array

Pair = tuple[Array, Array]  # what is right, and what was answered; first axis: rows
_LEAST = 1e-15  # probability, so that its logarithm is finite


class Metric(ABC):
    """``relative``: an error, of which less is better; its drop is relative to the parent's."""

    name: ClassVar[str]
    relative: ClassVar[bool] = False
    counts_rows: ClassVar[bool] = False  # each row is right or wrong, so that rows needed can be told beforehand

    @abstractmethod
    def pair(self, labels: Array, column: Array) -> Pair:
        """What is compared, row by row. Raises ``InvalidInput`` with the reason where the metric does not fit."""

    @abstractmethod
    def scores(self, pair: Pair, weights: Array) -> Array:
        """The score under each weighting of the rows. ``weights`` is [weightings, rows]; NaN where undefined."""

    @abstractmethod
    def losses(self, pair: Pair) -> Array:
        """How wrong each row is; 0 is right. Shape: [rows]."""

    def score(self, pair: Pair) -> float:
        """The score of all rows."""
        return float(self.scores(pair, np.ones((1, len(pair[0]))))[0])

    def agreement(self, parent: Array, candidate: Array) -> float:
        """How much two models' answers (the second of a pair each) are alike; 1 is the same."""
        return float(np.mean(parent == candidate))

    def drops(self, parent: Array, candidate: Array) -> Array:
        """From scores to drops, positive where the candidate is worse."""
        if not self.relative:
            return parent - candidate
        worse = candidate - parent
        with np.errstate(divide="ignore", invalid="ignore"):
            relative: Array = np.where(worse == 0, 0.0, worse / np.abs(parent))
        return relative


class _OfClasses(Metric):
    counts_rows = True

    def pair(self, labels: Array, column: Array) -> Pair:
        return answers.answered_classes(labels, column)

    def losses(self, pair: Pair) -> Array:
        wrong: Array = (pair[0] != pair[1]).astype(np.float64)
        return wrong


class Accuracy(_OfClasses):
    """The share of right answers."""

    name = "accuracy"

    def scores(self, pair: Pair, weights: Array) -> Array:
        return _mean((pair[0] == pair[1]).astype(np.float64), weights)


class F1(_OfClasses):
    """The harmonic mean of precision and recall, averaged over the labels' classes (macro)."""

    name = "f1"

    def scores(self, pair: Pair, weights: Array) -> Array:
        truth, given = pair
        total = np.zeros(len(weights))
        classes = np.unique(truth)
        for label in classes:
            there, said = truth == label, given == label
            table = weights @ np.stack([there & said, there, said], axis=1).astype(np.float64)
            total += 2 * table[:, 0] / np.maximum(table[:, 1] + table[:, 2], 1e-300)
        return total / len(classes)


class LogLoss(Metric):
    """The mean of minus the logarithm of the probability given to the right class."""

    name = "log_loss"
    relative = True

    def pair(self, labels: Array, column: Array) -> Pair:
        table = np.asarray(column, np.float64) if answers.is_scores(column) else answers.two_columns(column)
        if (table < 0).any() or not np.allclose(table[~np.isnan(table).any(axis=1)].sum(axis=1), 1, atol=1e-2):
            raise InvalidInput("the output holds scores that do not sum to 1: log_loss needs probabilities (softmax)")
        right = answers.class_indices(labels, table.shape[1])
        return right, table[np.arange(len(table)), right]

    def scores(self, pair: Pair, weights: Array) -> Array:
        return _mean(self.losses(pair), weights)

    def losses(self, pair: Pair) -> Array:
        return -np.log(np.maximum(pair[1], _LEAST))

    def agreement(self, parent: Array, candidate: Array) -> float:
        return float(1 - np.mean(np.abs(parent - candidate)))


class Auc(Metric):
    """The chance that a row of class 1 scores above one of class 0, ties counting half (Mann and Whitney 1947)."""

    name = "auc"

    def pair(self, labels: Array, column: Array) -> Pair:
        two = answers.is_scores(column) and column.shape[1] == 2
        if not two and not (answers.is_number(column) and column.dtype.kind not in "iub"):
            raise InvalidInput(f"auc is for two classes; the output has shape {list(column.shape)}")
        right = answers.class_indices(labels, 2)
        if len(set(right.tolist())) < 2:
            raise InvalidInput("auc needs rows of both classes; all labels are the same")
        score = np.asarray(column, np.float64)
        return right, score[:, 1] if two else score.ravel()

    def scores(self, pair: Pair, weights: Array) -> Array:
        right, score = pair
        if np.isnan(score).any():
            return np.full(len(weights), np.nan)
        order = np.argsort(score, kind="stable")
        ties = np.flatnonzero(np.diff(score[order], prepend=-np.inf) > 0)
        ones = np.add.reduceat(weights[:, order] * right[order], ties, axis=1)
        zeros = np.add.reduceat(weights[:, order] * (1 - right[order]), ties, axis=1)
        below = np.cumsum(zeros, axis=1) - zeros
        with np.errstate(invalid="ignore"):  # a resample may lack a class
            area: Array = (ones * (below + zeros / 2)).sum(axis=1) / (ones.sum(axis=1) * zeros.sum(axis=1))
        return area

    def losses(self, pair: Pair) -> Array:
        """The share of the other class that the row stands on the wrong side of."""
        right, score = pair
        zeros, ones = np.sort(score[right == 0]), np.sort(score[right == 1])
        above = 1 - np.searchsorted(zeros, score, side="left") / len(zeros)
        below = np.searchsorted(ones, score, side="right") / len(ones)
        wrong: Array = np.where(right == 1, above, below)
        return wrong

    def agreement(self, parent: Array, candidate: Array) -> float:
        return _likeness(parent, candidate)


class _OfNumbers(Metric):
    def pair(self, labels: Array, column: Array) -> Pair:
        if not answers.is_number(column):
            raise InvalidInput(f"{self.name} compares numbers; the output has shape {list(column.shape)}")
        return answers.numbers(labels, "the label column"), np.asarray(column, np.float64).ravel()

    def losses(self, pair: Pair) -> Array:
        apart: Array = np.abs(pair[0] - pair[1])
        return apart

    def agreement(self, parent: Array, candidate: Array) -> float:
        return _likeness(parent, candidate)


class Mae(_OfNumbers):
    """The mean absolute error."""

    name = "mae"
    relative = True

    def scores(self, pair: Pair, weights: Array) -> Array:
        return _mean(self.losses(pair), weights)


class Rmse(_OfNumbers):
    """The root of the mean squared error."""

    name = "rmse"
    relative = True

    def scores(self, pair: Pair, weights: Array) -> Array:
        return np.sqrt(_mean((pair[0] - pair[1]) ** 2, weights))


class R2(_OfNumbers):
    """The share of the labels' variance that the answers explain."""

    name = "r2"

    def scores(self, pair: Pair, weights: Array) -> Array:
        truth = pair[0] - pair[0].mean()  # a large mean would cost the variance its last digits
        spread = _mean(truth**2, weights) - _mean(truth, weights) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            explained: Array = 1 - _mean((pair[0] - pair[1]) ** 2, weights) / spread
        return explained


METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (Accuracy(), F1(), Auc(), LogLoss(), Mae(), Rmse(), R2())
}


def choose(
    outputs: Mapping[str, Array],
    labels: Array,
    metric: str | None = None,
    output: str | None = None,
    options: str = "--metric and --output",
) -> tuple[Metric, str]:
    """The metric and the output column it looks at, as named or the first that fit.

    By default classes and scores per class are judged by accuracy, one probability of two classes by auc, other numbers
    by r2. Raises ``InvalidInput`` saying for each output why it does not fit, and by which ``options`` one is named.
    """
    if metric is not None and metric not in METRICS:
        raise InvalidInput(f"--metric: there is no metric {metric!r}.{nearest(metric, METRICS)}")
    if output is not None and output not in outputs:
        raise InvalidInput(f"--output: the model has no output {output!r}.{nearest(output, outputs)}")
    reasons = []
    for name in [output] if output is not None else _by_likelihood(outputs):
        wanted = METRICS[metric] if metric else _default(outputs[name], labels)
        try:
            wanted.pair(labels, outputs[name])
        except InvalidInput as error:
            reasons.append(f"{wanted.name} of output {name!r}: {error.message}")
        else:
            return wanted, name
    raise InvalidInput(f"no metric fits. {'; '.join(reasons)}. Say which with {options}")


def _by_likelihood(outputs: Mapping[str, Array]) -> list[str]:
    """Classes first, then scores per class, then numbers."""
    ranks = (answers.is_label, answers.is_scores, answers.is_number)
    return sorted(outputs, key=lambda name: next((at for at, fits in enumerate(ranks) if fits(outputs[name])), 9))


def _default(column: Array, labels: Array) -> Metric:
    if answers.is_label(column) or answers.is_scores(column):
        return METRICS["accuracy"]
    two = set(answers.class_texts(labels).tolist()) <= {"0", "1", "true", "false"}
    return METRICS["auc" if two else "r2"]


def _mean(values: Array, weights: Array) -> Array:
    means: Array = (weights @ values) / weights.sum(axis=1)
    return means


def _likeness(parent: Array, candidate: Array) -> float:
    """The share of one model's variance that the other explains."""
    spread = float(np.var(parent))
    apart = float(np.mean((parent - candidate) ** 2))
    return 1.0 if apart == 0 else 1 - apart / spread if spread else 0.0
