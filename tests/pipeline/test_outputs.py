"""Probabilities, labels and decisions: values at the limits, and what is never decided upon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.pipeline.examples import column

from forwardpass.errors import BackendFailed, InvalidModel, InvalidRows
from forwardpass.pipeline import create_step
from forwardpass.types import Columns, DType, TensorSpec


def run(step: str, columns: Columns, folder: Path = Path(), **parameters: Any) -> Columns:
    return create_step({"step": step, **parameters}, {}, "postprocess 1").open(folder)(columns)


@given(arrays(np.float32, (4, 3), elements=st.floats(-(2.0**90), 2.0**90, width=32)))
def test_softmax_sums_to_one_and_keeps_the_order(scores: np.ndarray[Any, Any]) -> None:
    shares = run("softmax", {"x": scores}, input="x")["x"]
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert (np.take_along_axis(shares, scores.argmax(axis=1)[:, None], 1)[:, 0] == shares.max(axis=1)).all()


def test_sigmoid_at_the_ends() -> None:
    values = np.array([-1e4, 0, 1e4, np.log(3)], dtype=np.float32)
    np.testing.assert_allclose(run("sigmoid", {"x": values}, input="x")["x"], [0, 0.5, 1, 0.75], atol=1e-7)


def test_of_equals_the_first_class_comes_first() -> None:
    columns = {"p": np.array([[0.2, 0.4, 0.4]])}
    assert run("arg_max", columns, input="p")["p"].tolist() == [1]
    best = run("top_k", columns, input="p", k=3, labels=["a", "b", "c"])
    assert best["top_labels"].tolist() == [["b", "c", "a"]]
    assert best["top_probabilities"].tolist() == [[0.4, 0.4, 0.2]]


def test_labels_from_a_file(folder: Path) -> None:
    (folder / "labels.txt").write_text("cat\r\ndög\n\n", encoding="utf-8")
    named = run("labels", {"c": np.array([1, 0])}, folder, input="c", file="labels.txt")
    assert named["c"].tolist() == ["dög", "cat"]


@pytest.mark.parametrize("wrong", [2, -1])
def test_a_class_without_a_label_is_the_models_fault(wrong: int) -> None:
    with pytest.raises(BackendFailed, match=f"class {wrong}, but there are only 2 labels"):
        run("labels", {"c": np.array([0, wrong])}, input="c", labels=["a", "b"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_threshold_is_inclusive_in_the_models_own_type(dtype: Any) -> None:
    below = np.nextafter(dtype(0.3), dtype(0))
    columns = {"p": np.array([below, 0.3, 0.8, 1.0], dtype=dtype)}
    parameters: dict[str, Any] = {"input": "p", "thresholds": {"review": 0.3, "block": 0.8}, "otherwise": "approve"}
    assert run("decide", columns, **parameters)["p"].tolist() == ["approve", "review", "block", "block"]
    assert run("threshold", columns, input="p", at_least=0.3)["p"].tolist() == [False, True, True, True]


@pytest.mark.parametrize("step", ["decide", "threshold"])
def test_nan_is_not_decided_upon(step: str) -> None:
    parameters: dict[str, Any] = {"thresholds": {"block": 0.8}, "otherwise": "approve"} if step == "decide" else {}
    with pytest.raises(InvalidRows, match="row 1: p: the model gave NaN"):
        run(step, {"p": np.array([0.1, np.nan])}, input="p", **parameters)


def test_unsure_labels_become_unknown() -> None:
    columns = {"label": column("a", "a", "b", "b", "c"), "p": np.array([0.5, 0.49, 0.85, np.nan, 0.99])}
    checked = run("unknown_below", columns, confidence="p", at_least=0.5, per_label={"b": 0.9}, reject=["c"])
    assert checked["label"].tolist() == ["a", "unknown", "unknown", "unknown", "unknown"]


def test_the_largest_of_several_confidences_counts() -> None:
    columns = {"label": column("a", "b"), "p": np.array([[0.9, 0.1], [0.4, 0.45]])}
    assert run("unknown_below", columns, confidence="p", unknown="?")["label"].tolist() == ["a", "?"]


_SHARES = TensorSpec("x", DType.FP32, (None, 3))
_NUMBER = TensorSpec("x", DType.FP32, (None,))


@pytest.mark.parametrize(
    ("step", "parameters", "spec", "message"),
    [
        ("softmax", {"input": "x"}, _NUMBER, "works on several"),
        ("top_k", {"input": "x", "k": 4}, _SHARES, "k is 4, but there are only 3"),
        ("top_k", {"input": "x", "k": 0}, _SHARES, "k is 0"),
        ("top_k", {"input": "x", "labels": ["a"]}, _SHARES, "1 are given for 3 classes"),
        ("labels", {"input": "x", "labels": ["a"]}, _NUMBER, "whole numbers, such as arg_max"),
        ("labels", {"input": "x"}, _NUMBER, "either labels or file"),
        ("threshold", {"input": "x", "then": "yes"}, _NUMBER, "both then and otherwise"),
        ("threshold", {"input": "x", "at_least": [0.5, 0.5]}, _SHARES, "2 are given for 3 classes"),
        ("decide", {"input": "x", "thresholds": {"a": 0.5, "b": 0.5}, "otherwise": "c"}, _NUMBER, "must rise"),
        ("decide", {"input": "x", "thresholds": {}, "otherwise": "c"}, _NUMBER, "empty"),
        ("decide", {"input": "x", "thresholds": {"a": 0.5}, "otherwise": "c"}, _SHARES, "one value per row"),
        ("unknown_below", {"input": "x"}, _NUMBER, "give confidence, reject or both"),
        ("unknown_below", {"input": "x", "reject": ["a"]}, _NUMBER, "works on text"),
    ],
)
def test_what_does_not_fit_is_refused_at_load(
    step: str, parameters: dict[str, Any], spec: TensorSpec, message: str
) -> None:
    with pytest.raises(InvalidModel, match=message):
        create_step({"step": step, **parameters}, {}, "postprocess 1").writes({"x": spec})
