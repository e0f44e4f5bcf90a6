"""What a model that lies elsewhere takes and gives, from what servers say."""

from __future__ import annotations

from typing import Any

import pytest

from forwardpass.config import InputConfig, ModelConfig
from forwardpass.errors import InvalidModel
from forwardpass.gateway.description import describe
from forwardpass.types import DType, InputType, TensorSpec

METADATA: dict[str, Any] = {
    "name": "m",
    "platform": "forwardpass_onnxruntime",
    "inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}
OURS: dict[str, Any] = {
    "description": "Texts to numbers",
    "inputs": [{"name": "x", "type": "text", "description": "a text", "required": False, "max_length": 9}],
}


def test_metadata_alone_gives_tensors() -> None:
    found = describe(METADATA, None, None, ModelConfig())
    assert found.signature.inputs[0].tensor == TensorSpec("x", DType.BYTES, (None,))
    assert found.signature.inputs[0].type is InputType.TENSOR
    assert found.signature.outputs == (TensorSpec("y", DType.FP32, (None, 3)),)
    assert found.signature.batched
    assert found.most_rows is None


def test_a_server_of_ours_says_what_callers_send() -> None:
    found = describe(METADATA, {"max_batch_size": 7}, OURS, ModelConfig())
    (spec,) = found.signature.inputs
    assert (spec.type, spec.description, spec.required, spec.max_length) == (InputType.TEXT, "a text", False, 9)
    assert (found.most_rows, found.description) == (7, "Texts to numbers")


def test_the_model_yaml_here_wins() -> None:
    own = ModelConfig(inputs={"x": InputConfig(InputType.IMAGE)}, batching=False)
    found = describe(METADATA, None, OURS, own)
    assert found.signature.inputs[0].type is InputType.IMAGE
    assert not found.signature.batched


@pytest.mark.parametrize(
    ("shape", "settings", "batched"),
    [([-1, 3], None, True), ([4], None, False), ([-1, 3], {"max_batch_size": 0}, False), ([], None, False)],
)
def test_rows_run_together_where_the_first_axis_is_free_and_the_server_does_not_say_otherwise(
    shape: list[int], settings: dict[str, Any] | None, batched: bool
) -> None:
    metadata = {**METADATA, "outputs": [{"name": "y", "datatype": "FP32", "shape": shape}]}
    assert describe(metadata, settings, None, ModelConfig()).signature.batched is batched


def test_words_that_are_not_known_leave_the_tensor() -> None:
    person = {"inputs": [{"name": "x", "type": "hologram"}]}
    assert describe(METADATA, None, person, ModelConfig()).signature.inputs[0].type is InputType.TENSOR


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": None},
        {"inputs": []},
        {"outputs": [{"name": "y"}]},
        {"outputs": [{"name": "y", "datatype": "FP31", "shape": [1]}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": ["a"]}]},
        {"outputs": 7},
    ],
)
def test_metadata_that_means_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidModel, match="what it says of the model"):
        describe({**METADATA, **change}, None, None, ModelConfig())


def test_another_model_does_not_fit() -> None:
    found = describe(METADATA, None, None, ModelConfig())
    assert found.fits(describe(METADATA, {"max_batch_size": 3}, OURS, ModelConfig()))
    wider = {**METADATA, "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]}
    assert not found.fits(describe(wider, None, None, ModelConfig()))
