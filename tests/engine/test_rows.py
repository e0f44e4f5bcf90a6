"""Rows by column, by instance and by line of text to columns, and answers back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from forwardpass.engine.rows import (
    columns_from_instances,
    columns_from_mapping,
    columns_from_texts,
    instances_from_columns,
)
from forwardpass.errors import InvalidInput, InvalidRows
from forwardpass.types import Columns, DType, InputSpec, InputType, Signature, TensorSpec


def signature(*inputs: InputSpec, batched: bool = True) -> Signature:
    return Signature(inputs, (), batched)


def tensor(name: str, dtype: DType = DType.FP32, *row: int | None, required: bool = True) -> InputSpec:
    return InputSpec(TensorSpec(name, dtype, (None, *row)), required=required)


def lists(columns: Columns) -> dict[str, Any]:
    return {name: array.tolist() for name, array in columns.items()}


PERSON = signature(
    tensor("age", DType.INT64),
    InputSpec(TensorSpec("name", DType.BYTES, (None,)), type=InputType.TEXT, required=False),
    InputSpec(TensorSpec("size", DType.FP32, (None,)), type=InputType.NUMBER, required=False),
)
VECTOR = signature(tensor("x", DType.FP32, 2))
TEXT = signature(tensor("text", DType.BYTES))
WHOLE = signature(InputSpec(TensorSpec("x", DType.FP32, (2, 2))), batched=False)


def test_columns_by_name() -> None:
    columns = columns_from_mapping({"name": ["Ann", ""], "age": [1, 2.0], "size": np.array([1, 2])}, PERSON)
    assert lists(columns) == {"age": [1, 2], "name": ["Ann", ""], "size": [1.0, 2.0]}
    assert [columns[name].dtype for name in ("age", "name", "size")] == [np.int64, object, np.float32]


def test_columns_left_out() -> None:
    columns = columns_from_mapping({"age": [1, 2], "name": None}, PERSON)
    np.testing.assert_equal(lists(columns), {"age": [1, 2], "name": ["", ""], "size": [math.nan, math.nan]})


def test_zero_rows() -> None:
    assert lists(columns_from_mapping({"age": []}, PERSON)) == {"age": [], "name": [], "size": []}
    assert lists(columns_from_instances([], PERSON)) == {"age": [], "name": [], "size": []}
    assert columns_from_instances([], VECTOR)["x"].shape == (0, 2)
    assert columns_from_texts(["age"], [], PERSON)["age"].shape == (0,)


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"agee": [1]}, "unknown input 'agee'. Did you mean 'age'?"),
        ({"age": [1], "zzz": [1]}, "unknown input 'zzz'. Known: age, name, size."),
        ({"name": ["a"]}, "input 'age' is missing; this model takes age, name, size"),
        ({"age": None}, "input 'age' is missing"),
        ({"age": [1, 2], "name": ["a"]}, "input 'name' has 1 rows where 'age' has 2"),
        ({"age": [1, "2"]}, "row 1: input 'age': '2' is not a number; it must be INT64"),
    ],
)
def test_wrong_columns(mapping: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        columns_from_mapping(mapping, PERSON)
    assert says in caught.value.message


def test_no_column_at_all() -> None:
    with pytest.raises(InvalidInput, match="no input is given; this model takes x"):
        columns_from_mapping({}, signature(tensor("x", required=False)))


def test_a_whole_number_cannot_be_left_out() -> None:
    optional = signature(tensor("a"), tensor("b", DType.INT64, required=False))
    with pytest.raises(InvalidInput, match="input 'b' is missing, and INT64"):
        columns_from_mapping({"a": [1]}, optional)


def test_instances_by_name() -> None:
    columns = columns_from_instances(
        [{"age": 1, "name": "Ann"}, {"age": 2, "size": 3}, {"age": 4, "size": None}], PERSON
    )
    np.testing.assert_equal(
        lists(columns), {"age": [1, 2, 4], "name": ["Ann", "", ""], "size": [math.nan, 3.0, math.nan]}
    )


def test_bare_instances_of_a_single_input() -> None:
    assert lists(columns_from_instances([[1, 2], {"x": [3, 4]}], VECTOR)) == {"x": [[1, 2], [3, 4]]}
    assert lists(columns_from_instances(np.array([[1, 2]]), VECTOR)) == {"x": [[1, 2]]}
    assert lists(columns_from_instances(["a", b"b", {"b64": "aGk="}, {"text": {"b64": "aGk="}}], TEXT)) == {
        "text": ["a", b"b", b"hi", b"hi"]
    }
    assert lists(columns_from_instances([{"b64": "aGk="}], signature(tensor("b64", DType.BYTES)))) == {"b64": ["aGk="]}


@pytest.mark.parametrize(
    ("instances", "rows", "says"),
    [
        ([{"age": 1}, 3], [1], "row 1: 3 is not an object by input name; this model takes age, name, size"),
        ([{"age": 1}, {}, {"age": 1, "nam": 1}], [1, 2], "row 1: input 'age' is missing"),
        ([{"age": 1, "nam": ""}], [0], "row 0: unknown input 'nam'. Did you mean 'name'?"),
        ([{"age": None}], [0], "row 0: input 'age': is missing (null or empty)"),
        ([{"age": 1}, {"age": 2.5}, {"age": "x"}], [1, 2], "row 1: input 'age': 2.5 is not a whole number"),
        ([{"age": 1, "name": 7}], [0], "row 0: input 'name': 7 is not a text"),
    ],
)
def test_wrong_instances_are_all_named(instances: list[Any], rows: list[int], says: str) -> None:
    with pytest.raises(InvalidRows) as caught:
        columns_from_instances(instances, PERSON)
    assert list(caught.value.rows) == rows
    assert says in caught.value.message


def test_the_one_instance_of_a_model_without_rows() -> None:
    assert lists(columns_from_instances([[[1, 2], [3, 4]]], WHOLE)) == {"x": [[1, 2], [3, 4]]}
    assert lists(columns_from_instances(np.ones((1, 2, 2)), WHOLE)) == {"x": [[1, 1], [1, 1]]}
    for instances in ([], [[[1, 2], [3, 4]]] * 2):
        with pytest.raises(InvalidInput, match=f"send exactly one instance, not {len(instances)}"):
            columns_from_instances(instances, WHOLE)
    with pytest.raises(InvalidInput, match="unknown input 'y'") as caught:
        columns_from_instances([{"y": 1}], WHOLE)
    assert not isinstance(caught.value, InvalidRows)


def test_the_one_text_of_a_model_without_rows() -> None:
    text = InputSpec(TensorSpec("text", DType.BYTES, (None,)), type=InputType.TEXT)
    size = InputSpec(TensorSpec("size", DType.FP32, (None,)), type=InputType.NUMBER, required=False)
    columns = columns_from_instances([{"text": "hello"}], signature(text, size, batched=False))
    np.testing.assert_equal(lists(columns), {"text": ["hello"], "size": [math.nan]})


def test_lines_of_text_with_a_header() -> None:
    rows = [["Ann", " 41 ", "1.5e0"], ["", "-2", ""], ["3", "1e3", "nan"]]
    columns = columns_from_texts(["name", "age", "size"], rows, PERSON)
    np.testing.assert_equal(
        lists(columns), {"age": [41, -2, 1000], "name": ["Ann", "", "3"], "size": [1.5, math.nan, math.nan]}
    )


def test_lines_of_text_without_a_header() -> None:
    assert lists(columns_from_texts(None, [["41", "Ann", "1"]], PERSON)) == {
        "age": [41],
        "name": ["Ann"],
        "size": [1.0],
    }
    assert lists(columns_from_texts(None, [["1", "2"], ["3", "4"]], VECTOR)) == {"x": [[1, 2], [3, 4]]}


def test_a_line_is_the_vector_of_a_single_input() -> None:
    assert lists(columns_from_texts(["height", "width"], [["1", "2"]], VECTOR)) == {"x": [[1, 2]]}
    with pytest.raises(InvalidInput, match=r"rows have shape \[3\]; the model takes \[2\]"):
        columns_from_texts(None, [["1", "2", "3"]], VECTOR)


def test_columns_of_one_value_each() -> None:
    """As scikit-learn's pipelines are exported: one input of shape [rows, 1] for every column."""
    table = signature(
        tensor("a", DType.FP32, 1, required=False), tensor("b", DType.BYTES, 1), tensor("c", DType.BOOL, 1)
    )
    columns = columns_from_texts(["c", "b", "a"], [["true", "x", ""], ["0", "y", "2"]], table)
    np.testing.assert_equal(lists(columns), {"a": [[math.nan], [2]], "b": [["x"], ["y"]], "c": [[True], [False]]})


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        (["age", "nam"], ["1", "x"], "unknown input 'nam'. Did you mean 'name'?"),
        (["name"], ["x"], "input 'age' is missing"),
        (["age", "age"], ["1", "2"], "the header names 'age' more than once"),
        (["age", "name"], ["1"], "row 0: has 1 values instead of 2"),
        (["age"], ["x1"], "row 0: input 'age': 'x1' is not a number; it must be INT64"),
        (["age"], ["1_000"], "'1_000' is not a number"),
        (["age"], ["٣"], "is not a number"),
        (["age"], ["1.5"], "1.5 is not a whole number"),
        (["age"], ["9" * 30], "does not fit INT64"),
        (["age"], [""], "row 0: input 'age': is missing (null or empty)"),
    ],
)
def test_wrong_lines(header: list[str], row: list[str], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        columns_from_texts(header, [row], PERSON)
    assert says in caught.value.message


def test_answers_of_one_output_are_bare() -> None:
    answer = instances_from_columns({"y": np.array([[1, 2], [3, 4]], np.float32)})
    assert answer == [[1.0, 2.0], [3.0, 4.0]]
    assert type(answer[0][0]) is float


def test_answers_of_several_outputs_are_by_name() -> None:
    columns = {"label": np.array(["a", "b"], object), "p": np.array([0.5, 1], DType.BF16.numpy)}
    assert instances_from_columns(columns) == [{"label": "a", "p": 0.5}, {"label": "b", "p": 1.0}]


def test_answers_of_unlike_rows_are_plain_python() -> None:
    ragged = np.empty(2, object)
    ragged[:] = [np.array([1, 2]), [np.float32(0.5), {"b": 1}]]
    answer = instances_from_columns({"y": ragged})
    assert answer == [[1, 2], [0.5, {"b": 1}]]
    assert [type(answer[0][0]), type(answer[1][0])] == [int, float]


def test_answers_of_zero_rows() -> None:
    assert instances_from_columns({"y": np.empty((0, 3))}) == []
    assert instances_from_columns({"y": np.empty((0, 3)), "z": np.empty(0, object)}) == []


def test_the_one_answer_of_a_model_without_rows() -> None:
    columns = {"y": np.array([[1, 2]]), "z": np.array(3.0)}
    assert instances_from_columns(columns, batched=False) == [{"y": [[1, 2]], "z": 3.0}]
    assert instances_from_columns({"y": np.array([[1, 2]])}, batched=False) == [[[1, 2]]]
    assert instances_from_columns({"y": np.array(3.0)}) == [3.0]
