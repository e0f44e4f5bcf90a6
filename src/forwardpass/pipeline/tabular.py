"""Steps on the columns of a table: impute, scale, clip, one-hot and ordinal encoding.

In flow numbers and categories as callers send them, out flow the numbers a model was trained on;
``stack_columns`` (``columns.py``) then puts them in order. Learns nothing: every mean and every
list of categories is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from forwardpass.config import doc
from forwardpass.errors import nearest
from forwardpass.pipeline.base import Apply, Step
from forwardpass.pipeline.columns import (
    ColumnStep,
    as_float,
    flat,
    float_type,
    map_rows,
    numeric,
    objects,
    one_per_row,
    require,
)
from forwardpass.pipeline.text import shorten, to_text
from forwardpass.types import Array, DType, TensorSpec


@dataclass(frozen=True, kw_only=True)
class Impute(Step):
    """Fill in what is missing, in place: NaN in number columns, the empty text in others."""

    name: ClassVar[str] = "impute"
    values: dict[str, float | str | tuple[float, ...]] = field(
        metadata=doc("`column: value`; for a matrix one number, or one for each of its columns")
    )

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.values)

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        for name, value in self.values.items():
            spec = columns[name]
            text = spec.dtype is DType.BYTES
            kind = "text" if text else "numbers"
            require(isinstance(value, str) == text, self, f"column {name!r} holds {kind}, but its value is {value!r}")
            require(text or spec.dtype.is_float, self, f"column {name!r} is {spec.dtype}, where nothing can be missing")
            _check_width(self, "values", value, spec)
        return tuple(columns[name] for name in self.values)

    def open(self, folder: Path) -> Apply:
        return lambda columns: {name: _fill(columns[name], value) for name, value in self.values.items()}


@dataclass(frozen=True, kw_only=True)
class Scale(ColumnStep):
    """Standardise numbers: `(value - mean) / std`, as FP32 (FP64 stays)."""

    name: ClassVar[str] = "scale"
    mean: float | tuple[float, ...] = field(
        default=0.0, metadata=doc("subtracted first: one number, or one for each column of a matrix")
    )
    std: float | tuple[float, ...] = field(
        default=1.0, metadata=doc("divided by then: one number, or one for each column of a matrix")
    )

    def __post_init__(self) -> None:
        require(bool(np.all(np.asarray(self.std) != 0)), self, f"std {self.std} has a zero; give what to divide by")

    def result(self, spec: TensorSpec) -> TensorSpec:
        numeric(self, spec)
        _check_width(self, "mean", self.mean, spec)
        _check_width(self, "std", self.std, spec)
        return replace(spec, dtype=float_type(spec))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def scale(column: Array) -> Array:
            numbers = as_float(column)
            scaled: Array = (numbers - np.asarray(self.mean, numbers.dtype)) / np.asarray(self.std, numbers.dtype)
            return scaled

        return scale


@dataclass(frozen=True, kw_only=True)
class Clip(ColumnStep):
    """Bring numbers into a range. NaN stays NaN."""

    name: ClassVar[str] = "clip"
    minimum: float | None = field(default=None, metadata=doc("what is smaller becomes this"))
    maximum: float | None = field(default=None, metadata=doc("what is larger becomes this"))

    def __post_init__(self) -> None:
        low = -np.inf if self.minimum is None else self.minimum
        high = np.inf if self.maximum is None else self.maximum
        require(low <= high, self, f"minimum {self.minimum} is above maximum {self.maximum}")
        require((self.minimum, self.maximum) != (None, None), self, "give a minimum, a maximum or both")

    def result(self, spec: TensorSpec) -> TensorSpec:
        return replace(numeric(self, spec), dtype=float_type(spec))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        return lambda column: np.clip(as_float(column), self.minimum, self.maximum)


@dataclass(frozen=True, kw_only=True)
class OneHot(ColumnStep):
    """Turn a category into FP32 `[rows, n]`: 1 at its place in the list, 0 elsewhere."""

    name: ClassVar[str] = "one_hot"
    categories: tuple[str | int, ...] = field(metadata=doc("all categories, in the order the model was trained on"))
    unknown: Literal["error", "zeros"] = field(
        default="error", metadata=doc("a value that is not in the list is refused, or gives zeros")
    )

    def __post_init__(self) -> None:
        _check_categories(self, self.categories)

    def result(self, spec: TensorSpec) -> TensorSpec:
        _check_kind(self, self.categories, spec)
        return TensorSpec(spec.name, DType.FP32, (None, len(self.categories)))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        size = len(self.categories)
        # an unknown value points at the row of zeros after the last
        places = _Places(self.categories, size if self.unknown == "zeros" else None)
        rows = np.eye(size + 1, size, dtype=np.float32)
        return lambda column: rows[places.of(column, self.input)]


@dataclass(frozen=True, kw_only=True)
class Ordinal(ColumnStep):
    """Turn a category into its place in the list, from 0: INT64 `[rows]`."""

    name: ClassVar[str] = "ordinal"
    categories: tuple[str | int, ...] = field(metadata=doc("all categories, in the order the model was trained on"))
    unknown: int | None = field(
        default=None, metadata=doc("number for a value that is not in the list; default: it is refused")
    )

    def __post_init__(self) -> None:
        _check_categories(self, self.categories)

    def result(self, spec: TensorSpec) -> TensorSpec:
        _check_kind(self, self.categories, spec)
        return TensorSpec(spec.name, DType.INT64, (None,))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        places = _Places(self.categories, self.unknown)
        return lambda column: places.of(column, self.input)


def _fill(column: Array, value: Any) -> Array:
    if isinstance(value, str):
        return objects((value if entry in ("", b"", None) else entry for entry in column.tolist()), len(column))
    missing = np.isnan(column)
    filled: Array = np.where(missing, np.asarray(value, column.dtype), column)
    return filled


class _Places:
    """From values to their places in a list."""

    def __init__(self, categories: tuple[str | int, ...], unknown: int | None) -> None:
        """``unknown`` is the place of values that are not in the list; None refuses them."""
        self._places = {category: place for place, category in enumerate(categories)}
        self._unknown = unknown

    def of(self, column: Array, name: str) -> Array:
        """The places of all rows. Raises ``InvalidRows`` for those that have none."""
        rows = flat(column, name)
        try:  # almost always all are known
            return np.array([self._places[value] for value in rows.tolist()], dtype=np.int64)
        except (KeyError, TypeError):
            return np.array(map_rows(self._place, rows, name), dtype=np.int64)

    def _place(self, value: Any) -> int:
        key = to_text(value) if isinstance(value, bytes) else value
        found = self._places.get(key, self._unknown)
        if found is None:
            hint = nearest(str(key), [str(item) for item in self._places])
            raise ValueError(f"{shorten(key)} is not among the categories.{hint}")
        return found


def _check_categories(step: Step, categories: tuple[str | int, ...]) -> None:
    require(bool(categories), step, "categories is empty; list them")
    twice = [item for item in dict.fromkeys(categories) if categories.count(item) > 1]
    require(not twice, step, f"categories names {twice[:1]} more than once")


def _check_kind(step: Step, categories: tuple[str | int, ...], spec: TensorSpec) -> None:
    """Text never equals a number: a list of the other kind would refuse every row."""
    text = one_per_row(step, spec).dtype is DType.BYTES
    wrong = [item for item in categories if isinstance(item, str) != text]
    kind = "text; put the categories in quotes" if text else "numbers; write the categories without quotes"
    require(not wrong, step, f"category {wrong[:1]} cannot occur: column {spec.name!r} holds {kind}")


def _check_width(step: Step, name: str, value: Any, spec: TensorSpec) -> None:
    width = spec.shape[-1] if len(spec.shape) > 1 else 1
    fits = not isinstance(value, tuple) or width is None or len(value) == width
    require(fits, step, f"{name} has {len(value) if isinstance(value, tuple) else 1} numbers for {width} columns")
