"""Rows like a given one: others, within what the model takes, and the same every time."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forwardpass.edge.variations import MOST_SIDE, encode_png, vary
from forwardpass.types import Columns, DType, InputSpec, InputType, Signature, TensorSpec


def signature(spec: InputSpec) -> Signature:
    return Signature((spec,), (), True)


def of(values: Any, spec: InputSpec, number: int) -> Any:
    column = np.empty(1, object) if spec.tensor.dtype is DType.BYTES else np.asarray([values], spec.tensor.dtype.numpy)
    column[0] = values
    columns: Columns = {"x": column}
    first, again = vary(columns, signature(spec), number), vary(columns, signature(spec), number)
    assert first["x"].dtype == column.dtype
    assert np.array_equal(first["x"], again["x"])
    assert np.array_equal(columns["x"][0], values)  # as it was
    return first["x"][0].tolist() if isinstance(first["x"][0], np.ndarray | np.generic) else first["x"][0]


def spec(dtype: DType, kind: InputType = InputType.TENSOR, axes: tuple[int, ...] = (), **more: Any) -> InputSpec:
    return InputSpec(TensorSpec("x", dtype, (None, *axes)), kind, **more)


def test_zero_leaves_a_row_as_it_is() -> None:
    assert of(1.5, spec(DType.FP32, InputType.NUMBER), 0) == 1.5


def test_numbers_move_a_little_within_their_range() -> None:
    number = spec(DType.FP32, InputType.NUMBER, minimum=0.0, maximum=100.0)
    seen = [of(99.0, number, at) for at in range(1, 12)]
    assert len(set(seen)) > 5
    assert all(80 < value <= 100 for value in seen)
    assert of(0.0, spec(DType.FP64, InputType.NUMBER), 1) != 0.0


def test_whole_numbers_change_places_or_count_on() -> None:
    assert of([1, 2, 3], spec(DType.INT64, axes=(3,)), 1) == [3, 1, 2]
    assert of([7, 7], spec(DType.INT64, axes=(2,), minimum=0, maximum=8), 3) == [8, 8]
    assert of([True, False], spec(DType.BOOL, axes=(2,)), 1) == [False, True]


def test_words_and_categories_take_turns() -> None:
    text = spec(DType.BYTES, InputType.TEXT)
    assert of("clean the attic", text, 1) == "the attic clean"
    assert of("attic", text, 2) == "att"
    category = spec(DType.BYTES, InputType.CATEGORY, categories=("red", "green", "blue"))
    assert [of("green", category, at) for at in (1, 2, 3)] == ["blue", "red", "green"]


@pytest.mark.parametrize(("mode", "size"), [("L", (40, 30)), ("RGB", (300, 200)), ("RGBA", (9, 9)), ("1", (16, 16))])
def test_images_are_other_images_of_few_pixels(mode: str, size: tuple[int, int]) -> None:
    given = io.BytesIO()
    levels = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size[1], size[0]) % 251
    Image.fromarray(levels.astype(np.uint8)).convert(mode).save(given, "PNG")
    image = spec(DType.BYTES, InputType.IMAGE)
    made = [of(given.getvalue(), image, at) for at in range(1, 12)]
    assert len(set(made)) == 11
    for data in made:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            assert max(opened.size) <= MOST_SIDE


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 4, 3), (300, 300)])
def test_a_png_is_what_was_written(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as opened:
        assert np.array_equal(np.asarray(opened), pixels)
