"""A made-up request must be one that the model's own checks allow."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from forwardpass.cli.example import example_instance, tiny_image
from forwardpass.engine.rows import columns_from_instances
from forwardpass.pipeline.inputs import InputCheck
from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec


def spec(name: str, dtype: DType, shape: tuple[int | None, ...], type: InputType, **rest: object) -> InputSpec:
    return InputSpec(TensorSpec(name, dtype, shape), type, **rest)  # type: ignore[arg-type]


NUMBER, TEXT, CATEGORY, IMAGE = InputType.NUMBER, InputType.TEXT, InputType.CATEGORY, InputType.IMAGE
SPECS = [
    *(spec(f"t{dtype}", dtype, (None, 2, None), InputType.TENSOR) for dtype in DType),
    spec("between", DType.FP32, (None,), NUMBER, minimum=2.5, maximum=3.0),
    spec("negative", DType.INT32, (None,), NUMBER, maximum=-4.5),
    spec("whole", DType.INT64, (None, 3), NUMBER, minimum=1.5),
    spec("short", DType.BYTES, (None,), TEXT, max_length=2),
    spec("word", DType.BYTES, (None,), CATEGORY, categories=("red", "blue")),
    spec("picture", DType.BYTES, (None,), IMAGE, max_pixels=256),
]


@pytest.mark.parametrize("item", SPECS, ids=lambda item: item.name)
def test_it_is_allowed(item: InputSpec) -> None:
    signature = Signature((item,), (), True)
    columns = columns_from_instances([example_instance(signature)], signature)
    checked = InputCheck((item,))(columns)
    assert len(checked[item.name]) == 1


def test_several_inputs_are_named() -> None:
    signature = Signature(tuple(SPECS), (), True)
    instance = example_instance(signature)
    assert list(instance) == [item.name for item in SPECS]
    InputCheck(signature.inputs)(columns_from_instances([instance], signature))


def test_a_model_without_rows_gets_whole_tensors() -> None:
    signature = Signature((spec("x", DType.FP32, (4,), InputType.TENSOR),), (), False)
    assert example_instance(signature) == [0, 0, 0, 0]
    assert columns_from_instances([example_instance(signature)], signature)["x"].shape == (4,)


def test_the_image_can_be_decoded() -> None:
    image = Image.open(io.BytesIO(tiny_image()))
    assert (image.size, image.mode) == ((16, 16), "L")
    assert image.getextrema() == (0, 255)
