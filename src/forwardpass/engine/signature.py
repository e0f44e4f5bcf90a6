"""What a loaded version takes and gives: from ``model.yaml`` where it speaks, else from the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import yaml

from forwardpass.backends import Backend
from forwardpass.config import InputConfig, ModelConfig
from forwardpass.errors import InvalidModel
from forwardpass.pipeline import Pipeline, Step
from forwardpass.registry import ModelFiles
from forwardpass.types import DType, InputSpec, InputType, ModelInfo, Signature, TensorSpec


def create_signature(
    config: ModelConfig, backend: Backend, columns: Mapping[str, TensorSpec], outputs: tuple[str, ...]
) -> Signature:
    """``columns`` describes everything there is after postprocessing, ``outputs`` what is answered."""
    batched = backend.batched if config.batching is None else config.batching
    tensors = {spec.name: spec for spec in backend.inputs}
    if config.inputs:
        inputs = tuple(_input(name, item, tensors) for name, item in config.inputs.items())
    else:
        inputs = tuple(InputSpec(spec) for spec in backend.inputs)
    return Signature(inputs, tuple(columns[name] for name in outputs), batched)


def describe(files: ModelFiles, backend: Backend, preprocess: Pipeline, postprocess: Pipeline) -> ModelInfo:
    """The version in words, for people and pages."""
    return ModelInfo(
        description=files.config.description,
        backend=backend.name,
        artifact=files.artifact.name,
        preprocess=tuple(step_line(step) for step in preprocess.steps),
        postprocess=tuple(step_line(step) for step in postprocess.steps),
        sample=files.sample(),
        tags=files.config.tags,
    )


def step_line(step: Step) -> str:
    """A step and the parameters that are not at their default, in one line."""
    parts = [f"{item.name}={_short(getattr(step, item.name))}" for item in fields(step) if _is_set(step, item)]  # type: ignore[arg-type]
    return f"{step.name}({', '.join(parts)})"


def _is_set(step: Step, item: Any) -> bool:
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return bool(getattr(step, item.name) != default)


def _short(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1_000).strip().removesuffix("...").strip()
    return text if len(text) <= 60 else text[:57] + "…"


def _input(name: str, config: InputConfig, tensors: Mapping[str, TensorSpec]) -> InputSpec:
    allow_nan = config.allow_nan
    if allow_nan is None:
        allow_nan = config.type is InputType.TENSOR or not config.required
    return InputSpec(
        tensor=_tensor(name, config, tensors.get(name)),
        type=config.type,
        description=config.description,
        required=config.required,
        minimum=config.minimum,
        maximum=config.maximum,
        allow_nan=allow_nan,
        categories=config.categories,
        max_length=config.max_length,
        max_pixels=config.max_pixels if config.type is InputType.IMAGE else None,
    )


def _tensor(name: str, config: InputConfig, own: TensorSpec | None) -> TensorSpec:
    if config.type in (InputType.TEXT, InputType.IMAGE, InputType.CATEGORY):
        return TensorSpec(name, DType.BYTES, (None,))
    if config.type is InputType.NUMBER:
        return TensorSpec(name, config.dtype or DType.FP32, (None, *(config.shape or ())))
    if own is None and (config.dtype is None or config.shape is None):
        raise InvalidModel(
            f"inputs: {name}: the artifact has no input of that name; give its `dtype` and `shape`, "
            "or a `type` of text, image, number or category"
        )
    dtype = config.dtype or (own.dtype if own else DType.FP32)
    shape = (None, *config.shape) if config.shape is not None else own.shape if own else (None,)
    return TensorSpec(name, dtype, shape)
