"""Values as people write them, to columns: every element type, and what is refused in which words."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.engine.column import create_column
from forwardpass.errors import InvalidInput, InvalidRows
from forwardpass.types import Array, DType, InputSpec, TensorSpec

INTEGERS = [dtype for dtype in DType if dtype.numpy.kind in "iu"]
FLOATS = [dtype for dtype in DType if dtype.is_float]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64", "x"]), inner, max_size=2),
    max_leaves=12,
)


def spec(dtype: DType, *row: int | None, required: bool = True) -> InputSpec:
    return InputSpec(TensorSpec("x", dtype, (None, *row)), required=required)


def column(value: Any, dtype: DType, *row: int | None, required: bool = True) -> Array:
    return create_column(value, spec(dtype, *row, required=required), batched=True)


def values_of(dtype: DType) -> st.SearchStrategy[Any]:
    """Python values that the type holds exactly."""
    if dtype is DType.BOOL:
        return st.booleans()
    if dtype is DType.BYTES:
        return st.text(max_size=5) | st.binary(max_size=5)
    if dtype in INTEGERS:
        info = np.iinfo(dtype.numpy)
        return st.integers(int(info.min), int(info.max))
    width: Any = {DType.FP16: 16, DType.FP64: 64}.get(dtype, 32)
    floats = st.floats(width=width)
    return floats.map(_to_bfloat16) if dtype is DType.BF16 else floats


def _to_bfloat16(value: float) -> float:
    """The float whose lower half of a float32's bits is zero: exact in BF16."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    (exact,) = struct.unpack("<f", struct.pack("<I", (bits & 0xFFFF0000) | (0x400000 if math.isnan(value) else 0)))
    return float(exact)


@pytest.mark.parametrize("dtype", DType)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_values_that_the_type_holds_arrive_unchanged(dtype: DType, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(values_of(dtype), min_size=2, max_size=2), max_size=4))
    array = column(rows, dtype, 2)
    assert array.dtype == dtype.numpy
    assert array.shape == (len(rows), 2)
    np.testing.assert_equal(array.tolist(), rows)


@pytest.mark.parametrize("dtype", DType)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_row_is_read_alike_whatever_its_neighbours_are(dtype: DType, data: st.DataObject) -> None:
    whole = st.integers(-(2**65), 2**65)
    rows = data.draw(st.lists(st.booleans() | whole | st.floats() | st.text(max_size=2), min_size=1, max_size=4))
    alone, refused = _outcomes([[row] for row in rows], dtype)
    together, refused_together = _outcomes([rows], dtype)
    assert refused_together == refused
    np.testing.assert_equal(together, [] if refused else alone)


def _outcomes(requests: list[list[Any]], dtype: DType) -> tuple[list[Any], list[int]]:
    """What the rows of these requests become, and which of all rows are refused."""
    values: list[Any] = []
    refused: list[int] = []
    for at, rows in enumerate(requests):
        try:
            values += column(rows, dtype).tolist()
        except InvalidRows as reason:
            refused += [at + row for row in reason.rows]
    return values, refused


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("batched", [True, False])
@given(value=JSON)
@settings(max_examples=60, deadline=None)
def test_whatever_is_sent_becomes_a_column_or_is_refused(dtype: DType, batched: bool, value: Any) -> None:
    for shape in ((None,), (None, 2), (None, None)):
        inputs = InputSpec(TensorSpec("x", dtype, shape), required=False)
        message = "input 'x'"
        try:
            array = create_column(value, inputs, batched)
        except InvalidInput as reason:
            message = reason.message
        else:
            assert (array.dtype, array.ndim) == (dtype.numpy, len(shape))
        assert "'x'" in message
        assert len(message) < 400


@pytest.mark.parametrize("dtype", INTEGERS)
def test_whole_numbers_out_of_range(dtype: DType) -> None:
    info = np.iinfo(dtype.numpy)
    for value in (int(info.min) - 1, int(info.max) + 1, 10**30, -(10**400), 1e300):
        with pytest.raises(InvalidRows, match=f"does not fit {dtype}") as caught:
            column([0, value], dtype)
        assert list(caught.value.rows) == [1]


def test_large_whole_numbers_side_by_side_lose_nothing() -> None:
    """numpy would make floats of these two."""
    assert column([2**63 + 1, 1], DType.UINT64).tolist() == [2**63 + 1, 1]
    assert column([[2**53 + 1, 1.0]], DType.INT64, 2).tolist() == [[2**53 + 1, 1]]


@pytest.mark.parametrize("value", [0.5, -1e-9, float("nan"), float("inf"), np.float32(1.5)])
def test_fractions_are_no_whole_numbers(value: float) -> None:
    with pytest.raises(InvalidRows, match=r"row 1: input 'x': .* is not a whole number; it must be INT32"):
        column([1.0, value], DType.INT32)


@pytest.mark.parametrize(
    ("dtype", "value"), [(DType.FP16, 70000), (DType.FP32, 1e39), (DType.BF16, 1e39), (DType.FP64, 10**400)]
)
def test_floats_out_of_range(dtype: DType, value: float) -> None:
    with pytest.raises(InvalidRows, match=f"does not fit {dtype}") as caught:
        column([1.5, -value], dtype)
    assert list(caught.value.rows) == [1]
    assert column([float("inf"), float("-inf")], dtype).tolist() == [float("inf"), float("-inf")]


@pytest.mark.parametrize(("value", "held"), [(True, True), (0, False), (1.0, True)])
def test_truth(value: Any, held: bool) -> None:
    assert column([value], DType.BOOL).tolist() == [held]


def test_what_is_neither_true_nor_false() -> None:
    with pytest.raises(InvalidRows, match="2 does not fit BOOL"):
        column([2], DType.BOOL)


@pytest.mark.parametrize("dtype", [DType.FP32, DType.INT64, DType.BOOL])
@pytest.mark.parametrize("value", ["1", b"1", {"a": 1}, np.datetime64("2026-01-01"), 1j])
def test_what_is_no_number(dtype: DType, value: Any) -> None:
    with pytest.raises(InvalidRows, match=f"is not a number; it must be {dtype}") as caught:
        column([1, value, 1], dtype)
    assert list(caught.value.rows) == [1]


def test_a_long_text_among_numbers_takes_no_memory() -> None:
    """As one numpy array of texts these would take 800 gigabytes."""
    rows: list[Any] = [1.0] * 200_000
    rows[7] = "x" * 1_000_000
    with pytest.raises(InvalidRows, match=r"row 7: .* is not a number"):
        column(rows, DType.FP32)


@pytest.mark.parametrize("value", [3, 1.5, True, {"b64": 3}, {"a": "b"}])
def test_what_is_no_text(value: Any) -> None:
    with pytest.raises(InvalidRows, match=r"row 1: input 'x': .*(is not a text|is not base64)"):
        column(["a", value], DType.BYTES)


def test_bytes_as_base64() -> None:
    assert column([{"b64": "aGk="}, "a", b"\xff", ""], DType.BYTES).tolist() == [b"hi", "a", b"\xff", ""]
    assert column([[{"b64": "aGk="}]], DType.BYTES, 1).tolist() == [[b"hi"]]
    with pytest.raises(InvalidRows, match=r"row 0: input 'x': 'a\*' is not base64"):
        column([{"b64": "a*"}], DType.BYTES)


@pytest.mark.parametrize(("dtype", "held"), [(DType.FP32, math.nan), (DType.BF16, math.nan), (DType.BYTES, "")])
def test_a_value_left_out(dtype: DType, held: Any) -> None:
    some: Any = "a" if dtype is DType.BYTES else 1.0
    np.testing.assert_equal(column([some, None], dtype, required=False).tolist(), [some, held])
    np.testing.assert_equal(
        column([[some, None], None], dtype, 2, required=False).tolist(), [[some, held], [held, held]]
    )
    for row, shape in (([some, None], ()), ([[some], [None]], (1,)), ([[some], None], (1,))):
        with pytest.raises(InvalidRows, match="row 1: input 'x': is missing"):
            column(row, dtype, *shape)


def test_whole_numbers_cannot_be_left_out() -> None:
    with pytest.raises(InvalidRows, match=r"row 1: .*is missing \(null or empty\); send a value of INT64"):
        column([1, None], DType.INT64, required=False)


@pytest.mark.parametrize("dtype", DType)
def test_zero_rows(dtype: DType) -> None:
    assert column([], dtype, 3, None).shape == (0, 3, 0)
    assert column(np.empty((0, 3), dtype.numpy), dtype, 3).dtype == dtype.numpy


def test_a_wrong_shape_names_both() -> None:
    with pytest.raises(InvalidInput, match=r"input 'x': rows have shape \[2\]; the model takes \[3\]"):
        column([[1, 2], [3, 4]], DType.FP32, 3)
    with pytest.raises(InvalidInput, match=r"rows have shape \[\]; the model takes \[\?\]"):
        column([1, 2], DType.FP32, None)
    with pytest.raises(InvalidInput, match=r"has shape \[\]; send a list with one value per row"):
        column("hello", DType.BYTES)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[1, 2], [1], [1, 2]], r"row 1: input 'x': shape \[1\]; the model takes \[2\]"),
        ([[1, 2], 3], r"row 1: input 'x': shape \[\]; the model takes \[2\]"),
        ([[1, 2], [1, [2]]], r"row 1: input 'x': is nested unevenly; the model takes \[2\]"),
        ([[1, 2], None], r"row 1: input 'x': is missing"),
    ],
)
@pytest.mark.parametrize("dtype", [DType.FP32, DType.BYTES])
def test_uneven_rows_are_named(rows: list[Any], says: str, dtype: DType) -> None:
    texts = _as_texts(rows) if dtype is DType.BYTES else rows
    with pytest.raises(InvalidRows, match=says) as caught:
        column(texts, dtype, 2)
    assert list(caught.value.rows) == [1]


def _as_texts(value: Any) -> Any:
    return [_as_texts(item) for item in value] if isinstance(value, list) else None if value is None else str(value)


def test_rows_of_unlike_length_that_the_model_takes_one_by_one() -> None:
    with pytest.raises(InvalidRows, match=r"row 1: .* shape \[1\] where row 0 has \[2\]; send unlike rows apart"):
        column([[1, 2], [1]], DType.FP32, None)


def test_deep_nesting_is_refused() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    with pytest.raises(InvalidInput, match="nested unevenly"):
        column(value, DType.FP32, 2)


def test_arrays_that_fit_are_not_copied() -> None:
    array = np.ones((2, 3), np.float32)
    assert column(array, DType.FP32, 3) is array


@pytest.mark.parametrize(
    "array", [np.ones(2, ">f4"), np.ones(2, np.int8), np.ones(2, bool), np.ones(2, DType.BF16.numpy)]
)
def test_arrays_of_other_types_are_converted(array: Array) -> None:
    converted = column(array, DType.FP32)
    assert converted.dtype == np.dtype("=f4")
    assert converted.tolist() == [1.0, 1.0]


def test_a_whole_tensor_of_a_model_without_rows() -> None:
    tensor = InputSpec(TensorSpec("x", DType.FP32, (2, None)))
    assert create_column([[1], [2]], tensor, batched=False).tolist() == [[1.0], [2.0]]
    with pytest.raises(InvalidInput, match=r"has shape \[1, 1\]; the model takes \[2, \?\]"):
        create_column([[1]], tensor, batched=False)
    with pytest.raises(InvalidInput, match="nested unevenly") as caught:
        create_column([[1], [2, 3]], tensor, batched=False)
    assert not isinstance(caught.value, InvalidRows)
    with pytest.raises(InvalidInput, match="'a' is not a number"):
        create_column([["a"], [2]], tensor, batched=False)
    assert create_column(3, InputSpec(TensorSpec("x", DType.FP32, ())), batched=False).shape == ()
