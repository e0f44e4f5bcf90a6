"""Tensors there and back: every type, every shape, as JSON and as raw bytes."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from forwardpass.errors import InvalidInput
from forwardpass.server.http.tensors import array_from_json, json_from_array
from forwardpass.server.tensors import array_from_bytes, bytes_from_array
from forwardpass.types import Array, DType

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
TEXTS = st.one_of(st.text(max_size=5), st.just(""))


@st.composite
def tensors(draw: st.DrawFn, finite: bool) -> tuple[DType, Array]:
    """A type and an array of it; ``finite`` leaves out what JSON cannot write."""
    dtype, shape = draw(st.sampled_from(DType)), draw(SHAPES)
    size = math.prod(shape)
    if dtype is DType.BYTES:
        array = np.empty(size, object)
        array[:] = draw(st.lists(TEXTS if finite else st.binary(max_size=5), min_size=size, max_size=size))
        return dtype, array.reshape(shape)
    if dtype is DType.BF16:
        floats = st.floats(width=16, allow_nan=not finite, allow_infinity=not finite)
        return dtype, draw(hnp.arrays(np.float32, shape, elements=floats)).astype(dtype.numpy)
    if not finite or not dtype.is_float:
        return dtype, draw(hnp.arrays(dtype.numpy, shape))
    width: Any = dtype.numpy.itemsize * 8
    return dtype, draw(
        hnp.arrays(dtype.numpy, shape, elements=st.floats(width=width, allow_nan=False, allow_infinity=False))
    )


def same(one: Array, other: Array) -> bool:
    """To the bit, so that NaN equals NaN and 0 is not -0."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


@settings(max_examples=300, deadline=None)
@given(tensors(finite=False))
def test_raw_bytes_there_and_back(tensor: tuple[DType, Array]) -> None:
    dtype, array = tensor
    raw = bytes_from_array(array)
    back = array_from_bytes("x", dtype, array.shape, memoryview(raw))
    assert same(back, array)
    assert dtype is DType.BYTES or len(raw) == array.nbytes


@settings(max_examples=300, deadline=None)
@given(tensors(finite=True))
def test_json_there_and_back_flat_and_nested(tensor: tuple[DType, Array]) -> None:
    dtype, array = tensor
    said = json.loads(json_from_array(array))
    assert len(said) == array.size
    flat = array_from_json("x", dtype, array.shape, said)
    nested = array_from_json("x", dtype, array.shape, np.array(said, object).reshape(array.shape).tolist())
    assert same(flat, array)
    assert same(nested, array)


@settings(max_examples=200, deadline=None)
@given(tensors(finite=False), st.integers(-3, 3).filter(bool))
def test_a_wrong_number_of_bytes_is_never_taken(tensor: tuple[DType, Array], more: int) -> None:
    dtype, array = tensor
    raw = bytes_from_array(array)
    wrong = raw + b"\1" * more if more > 0 else raw[:more]
    if len(wrong) == len(raw) or (dtype is not DType.BYTES and not raw and more < 0):
        return
    with pytest.raises(InvalidInput, match="'x'"):
        array_from_bytes("x", dtype, array.shape, memoryview(wrong))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([DType.BYTES, DType.INT8, DType.FP32]), st.binary(max_size=40), SHAPES)
def test_any_bytes_are_taken_or_refused_by_name(dtype: DType, raw: bytes, shape: tuple[int, ...]) -> None:
    try:
        array = array_from_bytes("x", dtype, shape, memoryview(raw))
    except InvalidInput as error:
        refusal = error.message
        assert "'x'" in refusal
    else:
        assert array.shape == shape
        assert bytes_from_array(array) == raw


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DType), SHAPES, JSON)
def test_any_json_is_taken_or_refused_by_name(dtype: DType, shape: tuple[int, ...], data: Any) -> None:
    try:
        array = array_from_json("x", dtype, shape, data)
    except InvalidInput as error:
        refusal = error.message
        assert "'x'" in refusal
        assert len(refusal) < 300
    else:
        assert (array.dtype, array.shape) == (dtype.numpy, shape)


@pytest.mark.parametrize("text", ["", "ä", "\0", '"', "a" * 70_000])
def test_texts(text: str) -> None:
    array = np.array([[text, ""]], object)
    raw = bytes_from_array(array)
    assert array_from_bytes("x", DType.BYTES, (1, 2), memoryview(raw)).tolist() == [[text.encode(), b""]]
    assert json.loads(json_from_array(array)) == [text, ""]


def test_json_has_no_nan() -> None:
    for dtype in (DType.FP16, DType.BF16, DType.FP32, DType.FP64):
        array = np.array([1, math.nan, math.inf, -math.inf], dtype.numpy)
        assert json.loads(json_from_array(array)) == [1, None, None, None]


def test_slices_and_transposed_arrays_are_written_in_their_own_order() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    for view in (array[:, ::2], array.T, array[::-1]):
        assert json.loads(json_from_array(view)) == view.ravel().tolist()
        assert bytes_from_array(view) == view.copy().tobytes()
