"""Metrics against scikit-learn's, weights as repetition, and which metric fits which output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from forwardpass.errors import InvalidInput
from forwardpass.optimize.metric import METRICS, choose
from forwardpass.types import Array

DRAW = np.random.default_rng(3)
ROWS = 60
LABELS = DRAW.integers(0, 3, ROWS)
TWO = DRAW.integers(0, 2, ROWS)
SCORES = DRAW.dirichlet([1, 1, 1], ROWS)
TIED = DRAW.integers(0, 5, ROWS) / 5  # many ties
NUMBERS = DRAW.standard_normal(ROWS) + 100


def _accuracy(y: Array, p: Array) -> Any:
    return metrics.accuracy_score(y, p.argmax(axis=1))


def _f1(y: Array, p: Array) -> Any:
    return metrics.f1_score(y, p.argmax(axis=1), average="macro")


CASES = [
    ("accuracy", LABELS, SCORES, _accuracy),
    ("f1", LABELS, SCORES, _f1),
    ("log_loss", LABELS, SCORES, lambda y, p: metrics.log_loss(y, p, labels=[0, 1, 2])),
    ("auc", TWO, TIED, metrics.roc_auc_score),
    ("mae", NUMBERS, NUMBERS + TIED, metrics.mean_absolute_error),
    ("rmse", NUMBERS, NUMBERS + TIED, metrics.root_mean_squared_error),
    ("r2", NUMBERS, NUMBERS + TIED, metrics.r2_score),
]


@pytest.mark.parametrize(("name", "labels", "column", "expected"), CASES)
def test_a_weight_is_a_repetition(name: str, labels: Array, column: Array, expected: Any) -> None:
    metric = METRICS[name]
    weights = DRAW.integers(0, 4, (3, ROWS))
    pair = metric.pair(labels.astype(object), column)
    assert metric.score(pair) == pytest.approx(expected(labels, column))
    found = metric.scores(pair, weights.astype(float))
    for row, score in zip(weights, found, strict=True):
        assert score == pytest.approx(expected(np.repeat(labels, row), np.repeat(column, row, axis=0)))


def test_a_drop_of_a_share_is_in_points_and_of_an_error_relative() -> None:
    parent, worse = np.array([0.9]), np.array([0.8])
    assert METRICS["accuracy"].drops(parent, worse) == pytest.approx([0.1])
    assert METRICS["rmse"].drops(worse, parent) == pytest.approx([0.125])
    assert METRICS["rmse"].drops(np.array([0.0, 0.0]), np.array([0.0, 1.0])).tolist() == [0.0, np.inf]


@pytest.mark.parametrize(
    ("column", "labels", "expected"),
    [
        (np.array(["a", "b"], object), ["a", "a"], "accuracy"),
        (np.array([b"a", b"b"], object), ["a", "a"], "accuracy"),
        (np.array([1, 0]), ["1", "0"], "accuracy"),
        (np.array([[0.1, 0.9], [2.0, 1.0]], np.float32), [1, 0], "accuracy"),
        (np.array([0.5, 0.7], np.float32), [1, 0], "auc"),
        (np.array([[3.5], [0.7]], np.float32), [1.25, 7], "r2"),
    ],
)
def test_the_metric_that_an_output_suggests(column: Array, labels: list[Any], expected: str) -> None:
    metric, output = choose({"y": column}, np.array(labels, object))
    assert (metric.name, output) == (expected, "y")


def test_classes_are_looked_at_before_scores_and_only_where_labels_are_like_them() -> None:
    outputs = {"p": np.array([0.2, 0.9]), "decision": np.array(["approve", "block"], object)}
    assert choose(outputs, np.array(["approve", "block"], object))[1] == "decision"
    metric, output = choose(outputs, np.array([0, 1], object))
    assert (metric.name, output) == ("auc", "p")


@pytest.mark.parametrize(
    ("metric", "column", "labels", "says"),
    [
        ("auc", np.eye(3), [0, 1, 2], r"auc of output 'y': auc is for two classes; the output has shape \[3, 3\]"),
        ("auc", np.array([0.1, 0.2]), [1, 1], "needs rows of both classes"),
        ("accuracy", np.eye(2), ["cat", "dog"], "labels must be whole numbers from 0 to 1, not 'cat', 'dog'"),
        ("accuracy", np.array(["a", "b"], object), ["x", "y"], "labels .* have no class in common"),
        ("accuracy", np.array([3.5, 7.0]), [0, 1], "outside of 0 to 1, which are no probabilities"),
        ("log_loss", np.array([[3.0, -1.0]]), [0], "do not sum to 1: log_loss needs probabilities"),
        ("mae", np.array([1.0, 2.0]), ["High", "Low"], "the label column holds 'High', 'Low', which are no numbers"),
        ("rmse", np.array(["a", "b"], object), [1, 2], "rmse compares numbers"),
        ("acuracy", np.eye(2), [0, 1], "there is no metric 'acuracy'. Did you mean 'accuracy'"),
    ],
)
def test_a_metric_that_does_not_fit_says_why(metric: str, column: Array, labels: list[Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        choose({"y": column}, np.array(labels, object), metric)


def test_an_unknown_output_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"--output: the model has no output 'labl'\. Did you mean 'label'"):
        choose({"label": np.array([1])}, np.array([1], object), None, "labl")


def test_scores_that_are_no_numbers_are_wrong_answers() -> None:
    column = np.array([[np.nan, 1.0], [1.0, 0.0]])
    assert METRICS["accuracy"].score(METRICS["accuracy"].pair(np.array([0, 0], object), column)) == 0.5


def test_whole_numbers_truth_values_and_their_texts_are_the_same_classes() -> None:
    metric = METRICS["accuracy"]
    assert metric.score(metric.pair(np.array([3.0, 4.0], object), np.array(["3", b"4"], object))) == 1
    assert metric.score(metric.pair(np.array([True, False], object), np.array([[0.1, 0.9], [0.9, 0.1]]))) == 1
