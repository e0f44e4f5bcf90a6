"""Values between Arrow and numpy: what comes out is what went in, whatever its type and shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from forwardpass.errors import InvalidRows
from forwardpass.jobs.values import arrow_field, input_column, output_array, take, typed_array
from forwardpass.types import DType, InputSpec, InputType, TensorSpec

NUMBERS = [dtype for dtype in DType if dtype not in (DType.BYTES, DType.BF16)]


@pytest.mark.parametrize("dtype", NUMBERS)
@given(data=st.data())
def test_tensors_go_out_and_come_back(dtype: DType, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    array = data.draw(arrays.arrays(dtype.numpy, shape, elements={"allow_nan": False} if dtype.is_float else None))
    spec = TensorSpec("y", dtype, (None, *shape[1:]))
    column = output_array(array, arrow_field(spec))
    assert column.type == arrow_field(spec).type
    assert column.to_pylist() == array.tolist()
    np.testing.assert_array_equal(input_column(column, InputSpec(spec), True), array)


def test_no_rows() -> None:
    for shape in ((0,), (0, 3), (0, 2, 2)):
        field = arrow_field(TensorSpec("y", DType.FP32, (None, *shape[1:])))
        assert output_array(np.zeros(shape, np.float32), field).to_pylist() == []


def test_bfloat16_is_written_wider() -> None:
    array = np.array([1.5, -2.0], DType.BF16.numpy)
    field = arrow_field(TensorSpec("y", DType.BF16, (None,)))
    assert (field.type, output_array(array, field).to_pylist()) == (pa.float32(), [1.5, -2.0])


def test_texts_and_bytes_that_are_texts() -> None:
    field = arrow_field(TensorSpec("y", DType.BYTES, (None,)))
    assert output_array(np.array(["a", "ä".encode()], object), field).to_pylist() == ["a", "ä"]
    nested = np.empty(2, object)
    nested[:] = [["a", b"b"], ["c"]]
    wide = arrow_field(TensorSpec("y", DType.BYTES, (None, None)))
    assert output_array(nested, wide).to_pylist() == [["a", "b"], ["c"]]
    with pytest.raises(InvalidRows) as refused:
        output_array(np.array(["a", b"\xff"], object), field)
    assert list(refused.value.rows) == [1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", None]),
        pa.array(["a", "b", None], pa.large_string()),
        pa.array(["a", "b", None]).dictionary_encode(),
        ["a", "b", None],
    ],
    ids=["string", "large", "dictionary", "list"],
)
def test_texts_of_any_kind(column: Any) -> None:
    spec = InputSpec(TensorSpec("x", DType.BYTES, (None,)), required=False)
    assert input_column(column, spec, True).tolist() == ["a", "b", ""]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_(), pa.decimal128(21, 2)])
def test_numbers_of_any_kind(kind: pa.DataType) -> None:
    spec = InputSpec(TensorSpec("x", DType.INT32, (None,)))
    assert input_column(pa.array([1, 0]).cast(kind), spec, True).tolist() == [1, 0]


def test_what_does_not_fit_is_told_by_row() -> None:
    spec = InputSpec(TensorSpec("x", DType.INT8, (None,)))
    with pytest.raises(InvalidRows) as refused:
        input_column(pa.array([1, 300, 2, -200]), spec, True)
    assert list(refused.value.rows) == [1, 3]
    with pytest.raises(InvalidRows) as refused:
        input_column(pa.array([1.0, 2.5]), spec, True)
    assert list(refused.value.rows) == [1]


def test_typed_array_keeps_what_fits() -> None:
    field = pa.field("n", pa.int64())
    for column in (pa.array(["1", "x", "3"]), [1, "x", 3]):
        array, wrong = typed_array(column, field)
        assert (array.to_pylist(), list(wrong)) == ([1, None, 3], [1])


def test_take() -> None:
    columns = {"a": pa.array([1, 2, 3]), "b": [b"x", None, b"z"]}
    assert {name: list(map(_plain, column)) for name, column in take(columns, [0, 2]).items()} == {
        "a": [1, 3],
        "b": [b"x", b"z"],
    }
    assert take(columns, [0, 1, 2])["b"] is columns["b"]


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


def test_categories_are_made_once_each() -> None:
    spec = InputSpec(TensorSpec("x", DType.BYTES, (None,)), InputType.CATEGORY)
    column = input_column(pa.array(["a", "bb", "a", "bb", "a"]), spec, True)
    assert column.tolist() == ["a", "bb", "a", "bb", "a"]
    assert column[0] is column[2]
    assert input_column(pa.array([], pa.string()), spec, True).tolist() == []
