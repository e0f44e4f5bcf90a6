"""What callers may send for each type of input, and how every wrong row is named."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from tests.pipeline.examples import INVALID_UTF8, column, file_of, picture

from forwardpass.errors import InvalidInput, InvalidRows
from forwardpass.pipeline.inputs import InputCheck
from forwardpass.types import Array, DType, InputSpec, InputType, TensorSpec


def spec(
    type: InputType, dtype: DType = DType.BYTES, shape: tuple[int | None, ...] = (None,), **rest: Any
) -> InputSpec:
    return InputSpec(TensorSpec("x", dtype, shape), type, **rest)


def number(**rest: Any) -> InputSpec:
    return spec(InputType.NUMBER, DType.FP32, **{"allow_nan": False, **rest})


def check(declared: InputSpec, values: Array) -> list[Any]:
    conformed: list[Any] = InputCheck((declared,))({"x": values})["x"].tolist()
    return conformed


def refused(declared: InputSpec, values: Array) -> dict[int, str]:
    with pytest.raises(InvalidRows) as caught:
        check(declared, values)
    return caught.value.rows


def test_nothing_declared_checks_nothing() -> None:
    nothing = InputCheck(())
    columns = {"x": column(INVALID_UTF8)}
    assert not nothing
    assert nothing(columns) is columns
    assert InputCheck((number(),))


def test_texts_become_str() -> None:
    assert check(spec(InputType.TEXT), column("a", "café".encode())) == ["a", "café"]
    assert check(spec(InputType.TEXT), np.array([b"a", b"b"])) == ["a", "b"]
    assert check(spec(InputType.TEXT), column("a", "b")[:, None]) == ["a", "b"]


def test_every_row_that_is_no_text_is_named() -> None:
    rows = refused(spec(InputType.TEXT, max_length=4), column("good", INVALID_UTF8, 7, "12345", ""))
    assert sorted(rows) == [1, 2, 3, 4]
    assert "input 'x': b'caf\\xe9' is not valid UTF-8 at byte 3" in rows[1]
    assert "7 is no text" in rows[2]
    assert "'12345' has 5 characters; at most 4" in rows[3]
    assert "is empty or missing" in rows[4]


def test_length_counts_characters_not_bytes() -> None:
    assert check(spec(InputType.TEXT, max_length=4), column("äöüß".encode())) == ["äöüß"]


def test_what_is_not_required_may_be_left_out() -> None:
    assert check(spec(InputType.TEXT, required=False), column("a", None, b"")) == ["a", "", ""]
    categories = spec(InputType.CATEGORY, required=False, categories=("a",))
    assert check(categories, column("a", None, "")) == ["a", "", ""]
    values = check(number(required=False), np.array([1, np.nan], dtype=np.float32))
    assert np.isnan(values[1])
    assert check(spec(InputType.IMAGE, required=False), column(None)) == [b""]


def test_a_category_that_is_not_listed_is_refused_with_the_nearest() -> None:
    declared = spec(InputType.CATEGORY, categories=("red", "green"))
    assert check(declared, column(b"red", "green")) == ["red", "green"]
    rows = refused(declared, column("red", "gren", "R" * 500))
    assert rows[1] == "input 'x': 'gren' is not allowed. Did you mean 'green'?"
    assert len(rows[2]) < 120


def test_any_category_will_do_where_none_are_listed() -> None:
    assert check(spec(InputType.CATEGORY), column("whatever")) == ["whatever"]


def test_numbers_have_limits() -> None:
    declared = number(minimum=0.1, maximum=10)
    assert len(check(declared, np.array([0.1, 10], dtype=np.float32))) == 2
    rows = refused(declared, np.array([0, 5, 11, np.nan], dtype=np.float32))
    assert rows == {
        0: "input 'x': 0.0 is below the minimum 0.1",
        2: "input 'x': 11.0 is above the maximum 10",
        3: "input 'x': nan is not allowed; send a number",
    }


def test_tensors_are_checked_in_every_entry() -> None:
    declared = spec(InputType.TENSOR, DType.INT64, (None, 2), maximum=5)
    assert refused(declared, np.array([[1, 2], [5, 9]])) == {1: "input 'x': 9 is above the maximum 5"}
    free = spec(InputType.TENSOR, DType.FP32, (None, 2))
    assert np.isnan(check(free, np.full((1, 2), np.nan, np.float32))).all()


def test_a_tensor_without_rows_is_checked_as_it_is() -> None:
    assert check(spec(InputType.TENSOR, DType.FP32, (), maximum=5), np.array(3.0)) == 3.0  # type: ignore[comparison-overlap]
    assert 0 in refused(spec(InputType.TENSOR, DType.FP32, (), maximum=5), np.array(7.0))


@pytest.mark.parametrize("dtype", [DType.FP16, DType.BF16, DType.FP64])
def test_nan_is_found_in_every_float_type(dtype: DType) -> None:
    declared = spec(InputType.NUMBER, dtype, allow_nan=False)
    assert list(refused(declared, np.array([1, np.nan]).astype(dtype.numpy))) == [1]


def test_objects_are_no_numbers() -> None:
    with pytest.raises(InvalidInput, match="input 'x' is BYTES; send FP32"):
        check(number(), column("1", "2"))


def test_images_are_bytes_or_base64() -> None:
    data = file_of(picture(4, 4, 3))
    text = base64.b64encode(data).decode()
    assert check(spec(InputType.IMAGE), column(data, text, "data:image/png;base64," + text)) == [data] * 3


def test_what_is_no_image_is_refused() -> None:
    small = file_of(picture(2, 2))
    declared = spec(InputType.IMAGE, max_pixels=15)
    rows = refused(declared, column(small, b"", "%%%", b"hello", file_of(picture(4, 4)), picture(2, 2)))
    assert sorted(rows) == [1, 2, 3, 4, 5]
    assert "is empty or missing" in rows[1]
    assert "'%%%' is not base64" in rows[2]
    assert "are no image" in rows[3]
    assert "4x4 pixels; at most 15" in rows[4]
    assert "is no image" in rows[5]


def test_all_wrong_inputs_of_a_row_are_named_together() -> None:
    inputs = (number(maximum=1), InputSpec(TensorSpec("y", DType.BYTES, (None,)), InputType.TEXT))
    with pytest.raises(InvalidRows) as caught:
        InputCheck(inputs)({"x": np.array([2, 0], dtype=np.float32), "y": column("", "a")})
    assert list(caught.value.rows) == [0]
    assert "input 'x': 2.0 is above" in caught.value.rows[0]
    assert "; input 'y': is empty" in caught.value.rows[0]


def test_a_missing_input_is_named_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match=r"input 'x' is missing. Known: text."):
        InputCheck((number(),))({"text": column("a")})


def test_several_values_a_row_are_no_text() -> None:
    with pytest.raises(InvalidInput, match=r"shape \[1, 2\]; send one text per row"):
        check(spec(InputType.TEXT), np.array([["a", "b"]], dtype=object))


@pytest.mark.parametrize("type", list(InputType))
def test_zero_rows_are_a_batch_too(type: InputType) -> None:
    dtype = DType.FP32 if type in (InputType.NUMBER, InputType.TENSOR) else DType.BYTES
    declared = spec(type, dtype, minimum=0, allow_nan=False)
    assert check(declared, np.empty(0, dtype=dtype.numpy)) == []
