"""Which columns go where: by name, by --map, by being the only ones; and what is refused before any row is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from forwardpass.errors import InvalidInput, InvalidRows
from forwardpass.jobs.mapping import ColumnMap
from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec


def number(name: str, required: bool = True) -> InputSpec:
    return InputSpec(TensorSpec(name, DType.FP32, (None,)), InputType.NUMBER, required=required, allow_nan=not required)


def text(name: str, required: bool = True) -> InputSpec:
    return InputSpec(TensorSpec(name, DType.BYTES, (None,)), InputType.TEXT, required=required)


def vector(name: str, width: int | None) -> InputSpec:
    return InputSpec(TensorSpec(name, DType.FP32, (None, width)))


def signature(*inputs: InputSpec) -> Signature:
    return Signature(inputs, (TensorSpec("score", DType.FP32, (None,)),), batched=True)


def mapped(
    columns: Mapping[str, Any],
    *inputs: InputSpec,
    given: Mapping[str, Sequence[str]] | None = None,
    keep: Sequence[str] | None = None,
    typed: bool = True,
) -> tuple[ColumnMap, dict[str, pa.Array]]:
    arrays = {name: value if isinstance(value, pa.Array) else pa.array(value) for name, value in columns.items()}
    schema = pa.schema([pa.field(name, array.type) for name, array in arrays.items()])
    return ColumnMap(schema, signature(*inputs), given or {}, keep, typed), arrays


def batch(*args: Any, **named: Any) -> dict[str, list[Any]]:
    columns, arrays = mapped(*args, **named)
    rows = len(next(iter(arrays.values())))
    return {name: array.tolist() for name, array in columns.model_columns(arrays, rows).items()}


def test_columns_go_by_name() -> None:
    given = {"b": [1, 2], "a": [0.5, 1.5], "id": ["x", "y"]}
    columns, _ = mapped(given, number("a"), number("b"))
    assert columns.kept.names == ["id"]
    assert columns.outputs.names == ["id", "score"]
    assert batch(given, number("a"), number("b")) == {"a": [0.5, 1.5], "b": [1.0, 2.0]}


def test_columns_go_where_they_are_told_to() -> None:
    assert batch({"amount": [1.0, 2.0]}, number("a"), number("b"), given={"a": ["amount"], "b": ["amount"]}) == {
        "a": [1.0, 2.0],
        "b": [1.0, 2.0],
    }


def test_the_only_column_it_can_be_needs_no_name() -> None:
    assert batch({"id": [1, 2], "review": ["good", "bad"]}, text("text")) == {"text": ["good", "bad"]}


def test_as_many_numbers_as_the_vector_is_wide_need_no_names() -> None:
    assert batch({"name": ["a", "b"], "x": [1, 2], "y": [3.5, 4.5]}, vector("X", 2)) == {"X": [[1, 3.5], [2, 4.5]]}


def test_a_vector_of_named_columns_and_one_column_of_lists() -> None:
    assert batch({"x": [1, 2], "y": [3, 4], "z": [5, 6]}, vector("X", None), given={"X": ["z", "x"]}) == {
        "X": [[5, 1], [6, 2]]
    }
    assert batch({"X": [[1.0, 2.0], [3.0, 4.0]]}, vector("X", 2)) == {"X": [[1, 2], [3, 4]]}
    assert batch({"X": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2))}, vector("X", 2)) == {
        "X": [[1, 2], [3, 4]]
    }


def test_an_input_that_is_not_required_may_have_no_column() -> None:
    left = batch({"a": [1.0, 2.0]}, number("a"), number("b", required=False), text("c", required=False))
    assert left["c"] == ["", ""]
    assert np.isnan(left["b"]).all()


def test_missing_values() -> None:
    given = {"a": [1.0, None], "c": [None, "x"]}
    taken = batch(given, number("a", required=False), text("c", required=False))
    assert taken["c"] == ["", "x"]
    assert taken["a"][0] == 1.0
    assert np.isnan(taken["a"][1])
    with pytest.raises(InvalidRows) as refused:
        batch(given, number("a"), text("c"))
    assert sorted(refused.value.rows) == [0, 1]
    assert "'a': is missing" in refused.value.rows[1]


def test_numbers_written_as_text() -> None:
    assert batch({"a": ["1", " 2.5 "]}, number("a"), typed=False) == {"a": [1.0, 2.5]}
    with pytest.raises(InvalidRows) as refused:
        batch({"a": ["1", "two", None]}, number("a"), typed=False)
    assert sorted(refused.value.rows) == [1, 2]
    assert "'two' is not a number" in refused.value.rows[1]


def test_every_wrong_row_is_told_once() -> None:
    with pytest.raises(InvalidRows) as refused:
        batch({"a": [[1.0, 2.0], [1.0], None]}, vector("a", 2))
    assert sorted(refused.value.rows) == [1, 2]


@pytest.mark.parametrize(
    ("columns", "inputs", "given", "keep", "says"),
    [
        ({"amuont": [1.0], "x": [1.0]}, [number("amount"), number("x")], {}, None, "Did you mean 'amuont'"),
        ({"a": [1.0], "b": [2.0]}, [number("x")], {}, None, "2 columns could be it. Name it: --map x=COLUMN"),
        ({"a": ["t"]}, [number("a")], {}, None, "column 'a' is string; input 'a' takes numbers (FP32)"),
        ({"a": [1]}, [text("a")], {}, None, "column 'a' is int64; input 'a' takes text or bytes"),
        ({"a": [1.0]}, [number("a")], {"b": ["a"]}, None, "--map: there is no input 'b'"),
        ({"a": [1.0]}, [number("a")], {"a": ["aa"]}, None, "--map: there is no column 'aa'. Did you mean 'a'?"),
        ({"a": [1.0]}, [number("a")], {}, ["id"], "--keep: there is no column 'id'"),
        ({"a": [1.0], "score": [2.0]}, [number("a")], {}, None, "'score' cannot be kept beside the output"),
        ({"x": [1.0]}, [vector("X", 3)], {}, None, "its 3 elements: --map X=A,B,…"),
    ],
)
def test_refuses(
    columns: dict[str, Any], inputs: list[InputSpec], given: dict[str, list[str]], keep: list[str] | None, says: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        mapped(columns, *inputs, given=given, keep=keep)
    assert says in refused.value.message


def test_keep() -> None:
    given = {"id": [1], "a": [1.0], "photo": [b"\xff"]}
    assert mapped(given, number("a"))[0].kept.names == ["id"]
    assert mapped(given, number("a"), keep=["*"])[0].kept.names == ["id", "a", "photo"]
    assert mapped(given, number("a"), keep=[])[0].kept.names == []
    assert mapped(given, number("a"), keep=["a", "id"])[0].kept.names == ["a", "id"]


def test_a_kept_value_of_another_type_is_told() -> None:
    schema = pa.schema([pa.field("a", pa.float64()), pa.field("id", pa.int64())])
    columns = ColumnMap(schema, signature(number("a")), {}, None, typed=False)
    kept, wrong = columns.kept_columns({"a": pa.array(["1", "2"]), "id": pa.array(["7", "x"])})
    assert kept["id"].to_pylist() == [7, None]
    assert wrong == {1: "column 'id': 'x' is not int64, as those of the first rows are"}
