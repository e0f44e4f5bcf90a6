"""From a step's name in ``model.yaml`` to the step: the built-in ones, and a user's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from forwardpass.config import decode, decode_mapping
from forwardpass.errors import InvalidModel, nearest
from forwardpass.pipeline.base import Step

_MODULES = ("columns", "text", "image", "ink", "tabular", "outputs")


@cache
def step_classes() -> dict[str, type[Step]]:
    """Every built-in step by name. Importing them imports no image or tokenizer library yet."""
    for module in _MODULES:
        importlib.import_module(f"forwardpass.pipeline.{module}")
    return {cls.name: cls for cls in _subclasses(Step) if "name" in vars(cls)}  # type: ignore[type-abstract]


def create_step(entry: Any, own: Mapping[str, type[Step]], where: str) -> Step:
    """One entry of ``preprocess`` or ``postprocess``: ``{step: NAME, parameter: value, …}``.

    ``own`` holds the steps of the model's ``steps.py``, which win over built-in ones.
    """
    parameters = decode_mapping(entry, where, InvalidModel)
    name = parameters.get("step")
    known = {**step_classes(), **own}
    if name not in known:
        hint = nearest(str(name), known)
        raise InvalidModel(f"{where}: {'no `step:` given' if name is None else f'unknown step {name!r}'}.{hint}")
    rest = {key: value for key, value in parameters.items() if key != "step"}
    try:
        return decode(known[name], rest, f"{where} ({name})")
    except TypeError as reason:
        raise InvalidModel(f"{where} ({name}): {reason}") from None


def _subclasses(cls: type[Step]) -> list[type[Step]]:
    found = []
    for sub in cls.__subclasses__():
        if sub.__module__.startswith("forwardpass.pipeline."):
            found += [sub, *_subclasses(sub)]
    return found
