"""``docs/model-yaml.md`` is what the code says, and its example works."""

from __future__ import annotations

from pathlib import Path

import yaml
from docs import generate
from tests.pipeline.examples import write_tokenizer

from forwardpass.config import InputConfig, Limits, ModelConfig, decode
from forwardpass.errors import InvalidModel
from forwardpass.pipeline import create_pipeline, step_classes
from forwardpass.types import DType, TensorSpec


def test_the_page_is_fresh() -> None:
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "run `make docs`"


def test_every_key_and_every_step_is_on_it() -> None:
    page = generate.page()
    for name in step_classes():
        assert f"#### `{name}`\n" in page
    for cls in (ModelConfig, InputConfig, Limits):
        for key in cls.__dataclass_fields__:
            assert f"| `{key}` |" in page


def test_the_example_works(folder: Path) -> None:
    write_tokenizer(folder)
    config = decode(ModelConfig, yaml.safe_load(generate.EXAMPLE), "the example", InvalidModel)
    given = [TensorSpec("text", DType.BYTES, (None,)), TensorSpec("amount", DType.FP32, (None,))]
    prepared = create_pipeline(config.preprocess, given, folder, "preprocess")
    assert {"input_ids", "attention_mask"} <= set(prepared.columns)
    answered = create_pipeline(config.postprocess, [TensorSpec("logits", DType.FP32, (None, 3))], folder, "postprocess")
    assert set(config.outputs) <= set(answered.columns)
