"""Steps in order: what each finds, and how a pipeline that cannot work is refused at load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.examples import column, file_of, picture

from forwardpass.errors import InvalidModel
from forwardpass.pipeline import create_pipeline
from forwardpass.types import DType, TensorSpec

LOGITS = TensorSpec("logits", DType.FP32, (None, 3))
ANSWER = [
    {"step": "softmax", "input": "logits", "output": "probabilities"},
    {"step": "arg_max", "input": "probabilities", "output": "label", "largest": "confidence"},
    {"step": "labels", "input": "label", "labels": ["a", "b", "c"]},
    {"step": "unknown_below", "confidence": "confidence", "at_least": 0.6},
]


def test_steps_run_in_order() -> None:
    steps = create_pipeline(ANSWER, [LOGITS], Path(), "postprocess")
    written = steps.run({"logits": np.array([[0, 5, 0], [1, 1, 1]], dtype=np.float32)})
    assert written["label"].tolist() == ["b", "unknown"]
    assert steps.written == ["probabilities", "label", "confidence", "label", "label"]
    assert steps.columns["label"] == TensorSpec("label", DType.BYTES, (None,))
    assert steps.columns["probabilities"] == TensorSpec("probabilities", DType.FP32, (None, 3))


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(
        InvalidModel,
        match=r"postprocess 2 \(arg_max\): there is no column 'probability'.*Did you mean 'probabilities'\?",
    ):
        create_pipeline([ANSWER[0], {"step": "arg_max", "input": "probability"}], [LOGITS], Path(), "postprocess")


def test_a_column_of_the_wrong_type_is_refused_at_load() -> None:
    with pytest.raises(InvalidModel, match="softmax: column 'text' is BYTES"):
        create_pipeline([{"step": "softmax", "input": "text"}], [TensorSpec("text", DType.BYTES, (None,))], Path(), "x")


def test_an_image_becomes_a_tensor() -> None:
    entries = [
        {"step": "decode_image"},
        {"step": "resize_image", "width": 8, "height": 6, "fit": "crop"},
        {"step": "centre_crop", "width": 4, "height": 4},
        {"step": "normalise_image", "output": "pixels"},
    ]
    steps = create_pipeline(entries, [TensorSpec("image", DType.BYTES, (None,))], Path(), "preprocess")
    files = column(file_of(picture(20, 30, 3)), file_of(picture(9, 9)))
    assert steps.columns["pixels"] == TensorSpec("pixels", DType.FP32, (None, 3, 4, 4))
    assert steps.run({"image": files})["pixels"].shape == (2, 3, 4, 4)
    assert steps.run({"image": files[:0]})["pixels"].shape == (0, 3, 4, 4)
