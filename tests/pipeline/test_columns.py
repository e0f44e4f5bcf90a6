"""What stacking, casting and reshaping refuse, and the values they write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass.errors import BackendFailed, InvalidModel, InvalidRows
from forwardpass.pipeline import create_step
from forwardpass.types import Columns, DType, TensorSpec

HERE = Path()


def run(step: str, columns: Columns, **parameters: Any) -> Columns:
    return create_step({"step": step, **parameters}, {}, "preprocess 1").open(HERE)(columns)


def writes(step: str, spec: TensorSpec, **parameters: Any) -> tuple[TensorSpec, ...]:
    return create_step({"step": step, **parameters}, {}, "preprocess 1").writes({spec.name: spec})


def test_columns_are_stacked_in_the_given_order() -> None:
    columns = {"a": np.array([1, 2]), "b": np.array([[3.0, 4.0], [5.0, 6.0]])}
    stacked = run("stack_columns", columns, inputs=["b", "a"], output="x")["x"]
    assert stacked.dtype == np.float32
    assert stacked.tolist() == [[3, 4, 1], [5, 6, 2]]


def test_text_cannot_be_stacked() -> None:
    with pytest.raises(InvalidModel, match="column 'a' is BYTES; it works on numbers"):
        writes("stack_columns", TensorSpec("a", DType.BYTES, (None,)), inputs=["a"], output="x")


@pytest.mark.parametrize(("dtype", "top"), [(np.int64, 2**63), (np.int32, 2**31), (np.uint8, 256)])
def test_the_first_number_over_the_top_is_refused(dtype: Any, top: int) -> None:
    name = {np.int64: "INT64", np.int32: "INT32", np.uint8: "UINT8"}[dtype]
    below = np.nextafter(float(top), 0)
    assert run("cast", {"x": np.array([below])}, input="x", dtype=name)["x"].tolist() == [int(below)]
    with pytest.raises(InvalidRows, match="x: "):
        run("cast", {"x": np.array([float(top)])}, input="x", dtype=name)


def test_halves_are_rounded_to_even() -> None:
    assert run("round", {"x": np.array([0.125, 0.375])}, input="x", decimals=2)["x"].tolist() == [0.12, 0.38]


@pytest.mark.parametrize(
    ("step", "parameters", "message"),
    [
        ("reshape", {"shape": [5]}, "have 6 entries"),
        ("reshape", {"shape": [4, None]}, "have 6 entries"),
        ("select", {"index": 6}, "index is 6, but rows have 6"),
        ("select", {"index": -1}, "count from 0"),
        ("reshape", {"shape": [None, None]}, "more than one null"),
        ("round", {"decimals": -1}, "decimals is -1"),
    ],
)
def test_what_cannot_be_is_refused_before_any_row(step: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        writes(step, TensorSpec("x", DType.FP32, (None, 6)), input="x", **parameters)


def test_a_shape_that_only_the_batch_shows_wrong_is_the_models_fault() -> None:
    assert writes("reshape", TensorSpec("x", DType.FP32, (None, None)), input="x", shape=[2, None])
    with pytest.raises(BackendFailed, match=r"rows of 'x' are \(3,\)"):
        run("reshape", {"x": np.zeros((2, 3))}, input="x", shape=[2, None])
    with pytest.raises(BackendFailed, match="index 3"):
        run("select", {"x": np.zeros((2, 3))}, input="x", index=3)


def test_two_columns_cannot_take_one_name() -> None:
    with pytest.raises(InvalidModel, match="same new name"):
        create_step({"step": "rename", "columns": {"a": "c", "b": "c"}}, {}, "preprocess 1")
