"""Steps on columns of any kind: stack, rename, cast, round, select, reshape.

Also the base of every step that turns one column into one (``ColumnStep``), and what several step
modules need to say no: ``require`` for parameters, ``map_rows`` for rows, ``resource`` for files.
Knows no text, no image and no meaning of a number.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from forwardpass.config import doc
from forwardpass.errors import BackendFailed, InvalidModel, InvalidRows, nearest
from forwardpass.pipeline.base import Apply, Step
from forwardpass.types import Array, Columns, DType, TensorSpec

# spelt out rather than `DType`: parameters stay plain YAML values
NumberType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"
]


@dataclass(frozen=True, kw_only=True)
class ColumnStep(Step):
    """A step that turns one column into one, in place unless ``output`` names another."""

    input: str = field(metadata=doc("column to read"))
    output: str | None = field(default=None, metadata=doc("column to write; default: the input, in place"))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def target(self) -> str:
        return self.output or self.input

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        return (replace(self.result(columns[self.input]), name=self.target),)

    def open(self, folder: Path) -> Apply:
        function = self.prepare(folder)
        return lambda columns: {self.target: function(columns[self.input])}

    @abstractmethod
    def result(self, spec: TensorSpec) -> TensorSpec:
        """What it makes of a column described by ``spec``; the name is set by the caller."""

    @abstractmethod
    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        """Load resources; return the function from column to column."""


@dataclass(frozen=True, kw_only=True)
class StackColumns(Step):
    """Put number columns side by side, in the given order, as one matrix.

    A column of single numbers gives one column of the matrix, a matrix gives all of its own.
    """

    name: ClassVar[str] = "stack_columns"
    inputs: tuple[str, ...] = field(metadata=doc("columns to read, in the order the artifact was trained on"))
    output: str = field(metadata=doc("column to write, `[rows, n]`"))
    dtype: NumberType = field(default="FP32", metadata=doc("element type of the matrix"))

    def __post_init__(self) -> None:
        require(bool(self.inputs), self, "inputs is empty; name at least one column")

    @property
    def reads(self) -> tuple[str, ...]:
        return self.inputs

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        width: int | None = 0
        for name in self.inputs:
            shape = numeric(self, columns[name]).shape
            require(len(shape) <= 2, self, f"column {name!r} has {len(shape)} axes; it takes numbers or rows of them")
            here = shape[1] if len(shape) == 2 else 1
            width = None if here is None or width is None else width + here
        return (TensorSpec(self.output, DType(self.dtype), (None, width)),)

    def open(self, folder: Path) -> Apply:
        dtype = DType(self.dtype).numpy

        def apply(columns: Columns) -> Columns:
            parts = [columns[name] for name in self.inputs]
            blocks = [part[:, None] if part.ndim == 1 else part for part in parts]
            return {self.output: np.concatenate(blocks, axis=1, dtype=dtype, casting="unsafe")}

        return apply


@dataclass(frozen=True, kw_only=True)
class Rename(Step):
    """Give columns other names. The old ones stay; `outputs` says which are answered."""

    name: ClassVar[str] = "rename"
    columns: dict[str, str] = field(metadata=doc("`old: new` for each column"))

    def __post_init__(self) -> None:
        require(len(set(self.columns.values())) == len(self.columns), self, "two columns are given the same new name")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(replace(columns[old], name=new) for old, new in self.columns.items())

    def open(self, folder: Path) -> Apply:
        return lambda columns: {new: columns[old] for old, new in self.columns.items()}


@dataclass(frozen=True, kw_only=True)
class Cast(ColumnStep):
    """Turn numbers into another type. Fractions are cut off; what does not fit is refused by row."""

    name: ClassVar[str] = "cast"
    dtype: NumberType = field(metadata=doc("element type to write"))

    def result(self, spec: TensorSpec) -> TensorSpec:
        return replace(numeric(self, spec), dtype=DType(self.dtype))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        dtype = DType(self.dtype).numpy

        def cast(column: Array) -> Array:
            if dtype.kind in "iu":
                _check_fits(column, dtype, self.input)
            with np.errstate(over="ignore"):  # a float too large for a narrower one is infinite
                return column.astype(dtype)

        return cast


@dataclass(frozen=True, kw_only=True)
class Round(ColumnStep):
    """Round numbers to a number of decimals, halves to even."""

    name: ClassVar[str] = "round"
    decimals: int = field(default=0, metadata=doc("digits kept after the point"))

    def __post_init__(self) -> None:
        require(0 <= self.decimals <= 15, self, f"decimals is {self.decimals}; give 0 to 15")

    def result(self, spec: TensorSpec) -> TensorSpec:
        return numeric(self, spec)

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        return lambda column: column if column.dtype.kind in "biu" else np.round(column, self.decimals)


@dataclass(frozen=True, kw_only=True)
class Select(ColumnStep):
    """Take one entry of each row: of `[rows, n]` the one at `index`, as `[rows]`."""

    name: ClassVar[str] = "select"
    index: int = field(metadata=doc("position within the row, from 0"))

    def __post_init__(self) -> None:
        require(self.index >= 0, self, f"index is {self.index}; positions count from 0")

    def result(self, spec: TensorSpec) -> TensorSpec:
        require(len(spec.shape) >= 2, self, f"column {spec.name!r} has one entry per row; there is nothing to select")
        length = spec.shape[1]
        require(length is None or self.index < length, self, f"index is {self.index}, but rows have {length} entries")
        return replace(spec, shape=(spec.shape[0], *spec.shape[2:]))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def select(column: Array) -> Array:
            if column.ndim < 2 or self.index >= column.shape[1]:
                raise BackendFailed(f"select: index {self.index} of {self.input!r}, whose rows have {column.shape[1:]}")
            return column[:, self.index]

        return select


@dataclass(frozen=True, kw_only=True)
class Reshape(ColumnStep):
    """Give each row another shape with as many entries, in the same order."""

    name: ClassVar[str] = "reshape"
    shape: tuple[int | None, ...] = field(metadata=doc("shape of one row; one axis may be `null`, what is left over"))

    def __post_init__(self) -> None:
        known = [axis for axis in self.shape if axis is not None]
        require(len(self.shape) - len(known) <= 1, self, f"shape {list(self.shape)} has more than one null")
        require(all(axis > 0 for axis in known), self, f"shape {list(self.shape)} has an axis that is not positive")

    def result(self, spec: TensorSpec) -> TensorSpec:
        row = spec.shape[1:]
        if None in row:
            return replace(spec, shape=(None, *self.shape))
        size = math.prod(axis for axis in row if axis is not None)
        fitted = self._fit(size)
        require(fitted is not None, self, f"rows of {spec.name!r} have {size} entries; they cannot be {self.shape}")
        return replace(spec, shape=(None, *(fitted or ())))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def reshape(column: Array) -> Array:
            fitted = self._fit(math.prod(column.shape[1:]))
            if fitted is None:
                raise BackendFailed(f"reshape: rows of {self.input!r} are {column.shape[1:]}, not {self.shape}")
            return column.reshape(len(column), *fitted)

        return reshape

    def _fit(self, size: int) -> tuple[int, ...] | None:
        """The shape with its free axis filled in for rows of ``size`` entries; None where it cannot be."""
        known = math.prod(axis for axis in self.shape if axis is not None)
        fits = size % known == 0 if None in self.shape else size == known
        return tuple(size // known if axis is None else axis for axis in self.shape) if fits else None


def require(holds: bool, step: Step, message: str) -> None:
    """Raise ``InvalidModel`` naming the step where a parameter or a column makes no sense."""
    if not holds:
        raise InvalidModel(f"{step.name}: {message}")


def numeric(step: Step, spec: TensorSpec) -> TensorSpec:
    """The spec, refused where it is text or bytes."""
    require(spec.dtype is not DType.BYTES, step, f"column {spec.name!r} is {spec.dtype}; it works on numbers")
    return spec


def one_per_row(step: Step, spec: TensorSpec) -> TensorSpec:
    """The spec, refused where a row surely has more than one entry."""
    extra = [axis for axis in spec.shape[1:] if axis not in (1, None)]
    require(not extra, step, f"column {spec.name!r} has shape {list(spec.shape)}; it works on one value per row")
    return spec


def flat(column: Array, name: str) -> Array:
    """``[rows]`` from ``[rows]`` or ``[rows, 1]``."""
    if column.size != len(column):
        raise BackendFailed(f"column {name!r} has rows of {column.shape[1:]} where one value per row is needed")
    return column.reshape(len(column))


def as_float(column: Array) -> Array:
    """FP64 stays, everything else becomes FP32."""
    return column if column.dtype == np.float64 else column.astype(np.float32, copy=False)


def float_type(spec: TensorSpec) -> DType:
    """The type ``as_float`` gives a column."""
    return DType.FP64 if spec.dtype is DType.FP64 else DType.FP32


def objects(values: Iterable[Any], rows: int) -> Array:
    """A column of Python objects, one per row; arrays among them are not looked into."""
    column = np.empty(rows, dtype=object)
    for row, value in enumerate(values):
        column[row] = value
    return column


def map_rows(function: Callable[[Any], Any], column: Array, name: str) -> list[Any]:
    """The function over every row. It raises ``ValueError`` where a row is wrong; all such rows are
    reported in one ``InvalidRows`` that names the column."""
    results, wrong = [], {}
    for row, value in enumerate(column.tolist() if column.ndim == 1 else column):
        try:
            results.append(function(value))
        except ValueError as reason:
            wrong[row] = f"{name}: {reason}"
    if wrong:
        raise InvalidRows(wrong)
    return results


def resource(step: Step, folder: Path, name: str) -> Path:
    """A file of the model's folder that a parameter names."""
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    require(inside, step, f"file {name!r} is outside the model's folder; copy it there")
    file = folder / name
    there = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    require(file.is_file(), step, f"there is no file {name!r} in the model's folder.{nearest(name, there)}")
    return file


def _check_fits(column: Array, dtype: np.dtype[Any], name: str) -> None:
    limits = np.iinfo(dtype)
    top = float(limits.max) + 1.0 if column.dtype.kind == "f" else limits.max  # exact as a float
    below = column < top if column.dtype.kind == "f" else column <= top
    fits = (below & (column >= limits.min)).reshape(len(column), math.prod(column.shape[1:]))
    if not fits.all():
        rows = np.flatnonzero(~fits.all(axis=1)).tolist()
        flat_rows = column.reshape(fits.shape)
        raise InvalidRows({row: f"{name}: {flat_rows[row][~fits[row]][0]} is no {dtype.name}" for row in rows})
