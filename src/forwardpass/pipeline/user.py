"""A user's own steps: decorated functions in a ``steps.py`` beside ``model.yaml``.

    from forwardpass import step

    @step(reads=["text"], writes={"words": "INT64"})
    def count_words(columns, *, least: int = 0):
        return {"words": np.array([max(least, len(text.split())) for text in columns["text"]])}

Keyword-only arguments are the step's parameters in ``model.yaml``.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from forwardpass.errors import InvalidModel
from forwardpass.pipeline.base import Apply, Step
from forwardpass.types import Columns, DType, TensorSpec

STEPS_FILE = "steps.py"
F = TypeVar("F", bound=Callable[..., Columns])


def step(*, reads: Sequence[str], writes: Mapping[str, str] | Sequence[str]) -> Callable[[F], F]:
    """Declare a function as a step: which columns it reads and which it writes.

    ``writes`` gives each column's element type (``"FP32"``, or with the shape of one row
    ``"FP32[3,224,224]"``, ``?`` for a free axis); a list of names keeps the types they have.

    The function takes the batch's columns and returns the written ones, with as many rows. It may
    raise ``forwardpass.errors.InvalidRows`` (some rows are wrong) or ``InvalidInput`` (all are).
    """

    def mark(function: F) -> F:
        declared = dict(writes) if isinstance(writes, Mapping) else dict.fromkeys(writes)
        function.__forwardpass_step__ = (tuple(reads), declared)  # type: ignore[attr-defined]
        return function

    return mark


def load_user_steps(folder: Path) -> dict[str, type[Step]]:
    """The steps of a model's ``steps.py`` by function name; none where there is no such file."""
    file = folder / STEPS_FILE
    if not file.is_file():
        return {}
    spec = importlib.util.spec_from_file_location(f"forwardpass_steps_{folder.name}", file)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as reason:  # whatever the user's file raises becomes one clear message
        raise InvalidModel(f"{file}: cannot be imported: {type(reason).__name__}: {reason}") from reason
    functions = {name: item for name, item in vars(module).items() if hasattr(item, "__forwardpass_step__")}
    return {name: _step_class(name, function) for name, function in functions.items()}


def _step_class(name: str, function: Callable[..., Columns]) -> type[Step]:
    """A Step whose fields are the function's keyword-only arguments."""
    reads, writes = function.__forwardpass_step__  # type: ignore[attr-defined]
    hints = typing.get_type_hints(function)
    fields: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
            fields.append((parameter.name, hints.get(parameter.name, Any), dataclasses.field(default=default)))
    names = [item[0] for item in fields]
    declared: list[tuple[str, str | None]] = list(writes.items())

    def open_(self: Any, folder: Path) -> Apply:  # noqa: ARG001
        return functools.partial(function, **{item: getattr(self, item) for item in names})

    namespace = {
        "name": name,
        "__doc__": function.__doc__ or f"Step {name} of {STEPS_FILE}.",
        "reads": property(lambda self: reads),
        "writes": lambda self, columns: tuple(_spec(name, column, kind, columns) for column, kind in declared),
        "open": open_,
    }
    return dataclasses.make_dataclass(name, fields, bases=(Step,), namespace=namespace, frozen=True)


def _spec(step_name: str, column: str, declared: str | None, columns: Mapping[str, TensorSpec]) -> TensorSpec:
    """The spec that ``writes`` declares for a column: ``FP32[3,?]``, ``FP32``, or as it was."""
    if declared is None:
        if column not in columns:
            raise InvalidModel(f"step {step_name!r} adds {column!r}: give its type, writes={{{column!r}: 'FP32'}}")
        return columns[column]
    dtype, _, axes = declared.rstrip("]").partition("[")
    try:
        row = tuple(None if axis.strip() == "?" else int(axis) for axis in axes.split(",") if axis.strip())
        return TensorSpec(column, DType(dtype), (None, *row))
    except ValueError:
        raise InvalidModel(f"step {step_name!r}: {declared!r} is no type; write 'FP32' or 'FP32[3,?]'") from None
