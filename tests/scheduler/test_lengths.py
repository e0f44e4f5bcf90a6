"""How long rows are."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.scheduler.lengths import longest_row, ragged_inputs, row_lengths
from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec


def signature(*inputs: InputSpec, batched: bool = True) -> Signature:
    return Signature(inputs, (), batched)


TEXT = InputSpec(TensorSpec("text", DType.BYTES, (None,)), InputType.TEXT)
IDS = InputSpec(TensorSpec("ids", DType.INT64, (None, None)))
FIXED = InputSpec(TensorSpec("x", DType.FP32, (None, 8)))
IMAGE = InputSpec(TensorSpec("image", DType.BYTES, (None,)), InputType.IMAGE)


def test_texts_and_free_axes_are_ragged() -> None:
    assert ragged_inputs(signature(TEXT, IDS, FIXED, IMAGE)) == ("text", "ids")


def test_a_model_without_rows_is_not() -> None:
    assert ragged_inputs(signature(TEXT, IDS, batched=False)) == ()


@pytest.mark.parametrize("texts", [["ab", "", "abcde"], [b"ab", b"", b"abcde"]])
def test_texts_count_by_character(texts: list[str]) -> None:
    columns = {"text": np.array(texts, object)}
    assert longest_row(columns, ["text"]) == 5
    assert row_lengths(columns, ["text"]).tolist() == [2, 0, 5]


def test_tensors_count_by_element() -> None:
    columns = {"ids": np.zeros((3, 4, 5), np.int64), "text": np.array(["a", "bb", "ccc"], object)}
    assert longest_row(columns, ["ids", "text"]) == 23
    assert row_lengths(columns, ["ids", "text"]).tolist() == [21, 22, 23]


def test_several_texts_in_a_row_count_together() -> None:
    column = np.array([["ab", "c"], ["", "d"]], object)
    assert longest_row({"text": column}, ["text"]) == 3
    assert row_lengths({"text": column}, ["text"]).tolist() == [3, 1]


@pytest.mark.parametrize("column", [np.zeros((0, 4)), np.array([], object)])
def test_no_rows_have_no_length(column: np.ndarray) -> None:
    assert longest_row({"x": column}, ["x"]) == 0
    assert row_lengths({"x": column}, ["x"]).tolist() == []
