"""Values of the table steps, and parameters that do not fit their column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.examples import column

from forwardpass.errors import InvalidModel, InvalidRows
from forwardpass.pipeline import create_step
from forwardpass.types import Array, DType, TensorSpec


def run(step: str, x: Array, **parameters: Any) -> Array:
    return create_step({"step": step, **parameters}, {}, "preprocess 1").open(Path())({"x": x})["x"]


def test_missing_values_are_filled_in() -> None:
    numbers = np.array([[1, np.nan], [np.nan, np.nan]], dtype=np.float32)
    filled = run("impute", numbers, values={"x": [5, 6]})
    assert filled.dtype == np.float32
    assert filled.tolist() == [[1, 6], [5, 6]]
    assert run("impute", column("a", "", None), values={"x": "none"}).tolist() == ["a", "none", "none"]


def test_numbers_are_standardised() -> None:
    assert run("scale", np.array([[1, 10]]), input="x", mean=[1, 4], std=[1, 3]).tolist() == [[0, 2]]


def test_clipping_keeps_nan() -> None:
    clipped = run("clip", np.array([-5, np.nan, 5], dtype=np.float32), input="x", minimum=-1, maximum=1)
    np.testing.assert_array_equal(clipped, np.array([-1, np.nan, 1], dtype=np.float32))


def test_one_hot() -> None:
    encoded = run("one_hot", column("b", b"a", "?"), input="x", categories=["a", "b"], unknown="zeros")
    assert encoded.tolist() == [[0, 1], [1, 0], [0, 0]]


def test_an_unknown_category_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidRows, match=r"row 1: x: 'gren' is not among the categories. Did you mean 'green'\?"):
        run("ordinal", column("red", "gren"), input="x", categories=["red", "green"])


_NUMBER = TensorSpec("x", DType.FP32, (None,))
_MATRIX = TensorSpec("x", DType.FP32, (None, 3))
_TEXT = TensorSpec("x", DType.BYTES, (None,))
_WHOLE = TensorSpec("x", DType.INT64, (None,))


@pytest.mark.parametrize(
    ("step", "parameters", "spec", "message"),
    [
        ("impute", {"values": {"x": "none"}}, _NUMBER, "holds numbers, but its value is 'none'"),
        ("impute", {"values": {"x": 1}}, _TEXT, "holds text"),
        ("impute", {"values": {"x": 1}}, _WHOLE, "nothing can be missing"),
        ("impute", {"values": {"x": [1, 2]}}, _MATRIX, "2 numbers for 3 columns"),
        ("scale", {"input": "x", "mean": [1, 2]}, _MATRIX, "2 numbers for 3 columns"),
        ("scale", {"input": "x", "std": 0}, _NUMBER, "zero"),
        ("scale", {"input": "x"}, _TEXT, "works on numbers"),
        ("clip", {"input": "x"}, _NUMBER, "give a minimum"),
        ("clip", {"input": "x", "minimum": 2, "maximum": 1}, _NUMBER, "minimum 2.0 is above maximum 1.0"),
        ("one_hot", {"input": "x", "categories": []}, _TEXT, "empty"),
        ("one_hot", {"input": "x", "categories": ["a", "b", "a"]}, _TEXT, r"\['a'\] more than once"),
        ("one_hot", {"input": "x", "categories": [1]}, _TEXT, "quotes"),
        ("ordinal", {"input": "x", "categories": ["1"]}, _WHOLE, "without quotes"),
        ("ordinal", {"input": "x", "categories": [1]}, _MATRIX, "one value per row"),
    ],
)
def test_what_does_not_fit_is_refused_at_load(
    step: str, parameters: dict[str, Any], spec: TensorSpec, message: str
) -> None:
    with pytest.raises(InvalidModel, match=message):
        create_step({"step": step, **parameters}, {}, "preprocess 1").writes({"x": spec})
