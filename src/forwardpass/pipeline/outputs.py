"""Steps from what a model gives to what people ask for: probabilities, labels, a decision.

In flow scores, out flow probabilities, labels and texts that say what to do. A value that is not a
number is never decided upon: the row is refused, or its label becomes unknown. Knows no model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from forwardpass.config import doc
from forwardpass.errors import BackendFailed, InvalidRows
from forwardpass.pipeline.base import Apply, Step
from forwardpass.pipeline.columns import (
    ColumnStep,
    as_float,
    flat,
    float_type,
    numeric,
    objects,
    one_per_row,
    require,
    resource,
)
from forwardpass.pipeline.text import texts_of, textual
from forwardpass.types import Array, Columns, DType, TensorSpec

Labels = tuple[str | int, ...]
_LABELS = doc("the labels in the order of the model's classes")
_LABELS_FILE = doc("file of the model's folder with one label per line, instead of `labels`")


@dataclass(frozen=True, kw_only=True)
class Softmax(ColumnStep):
    """Turn scores into probabilities that sum to 1 over the last axis."""

    name: ClassVar[str] = "softmax"

    def result(self, spec: TensorSpec) -> TensorSpec:
        return replace(_classes(self, spec), dtype=float_type(spec))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def softmax(column: Array) -> Array:
            scores = as_float(column)
            with np.errstate(invalid="ignore"):  # an infinite score gives NaN
                powers = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
            probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
            return probabilities

        return softmax


@dataclass(frozen=True, kw_only=True)
class Sigmoid(ColumnStep):
    """Turn each score into a probability of its own."""

    name: ClassVar[str] = "sigmoid"

    def result(self, spec: TensorSpec) -> TensorSpec:
        return replace(numeric(self, spec), dtype=float_type(spec))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def sigmoid(column: Array) -> Array:
            scores = as_float(column)
            small = np.exp(-np.abs(scores))  # never overflows
            probabilities: Array = np.where(scores >= 0, 1, small) / (1 + small)
            return probabilities

        return sigmoid


@dataclass(frozen=True, kw_only=True)
class ArgMax(ColumnStep):
    """Find the class with the largest value in each row: INT64. The first of equals wins."""

    name: ClassVar[str] = "arg_max"
    largest: str | None = field(default=None, metadata=doc("column to write the largest value to; default: none"))

    def result(self, spec: TensorSpec) -> TensorSpec:
        return replace(_classes(self, spec), dtype=DType.INT64, shape=spec.shape[:-1])

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        index = super().writes(columns)
        if self.largest is None:
            return index
        return (*index, replace(columns[self.input], name=self.largest, shape=index[0].shape))

    def open(self, folder: Path) -> Apply:
        function = self.prepare(folder)

        def apply(columns: Columns) -> Columns:
            written = {self.target: function(columns[self.input])}
            if self.largest is not None:
                written[self.largest] = columns[self.input].max(axis=-1)
            return written

        return apply

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        return lambda column: column.argmax(axis=-1).astype(np.int64, copy=False)


@dataclass(frozen=True, kw_only=True)
class TopK(Step):
    """Find the `k` classes with the largest values, largest first: their labels and their values.

    Both columns are `[rows, k]`. Without labels, the classes are numbers (INT64). Of equals, the
    first class comes first.
    """

    name: ClassVar[str] = "top_k"
    input: str = field(default="probabilities", metadata=doc("column of values, `[rows, classes]`"))
    k: int = field(default=3, metadata=doc("how many"))
    labels: Labels = field(default=(), metadata=_LABELS)
    file: str | None = field(default=None, metadata=_LABELS_FILE)
    output: str = field(default="top_labels", metadata=doc("column to write the labels to"))
    values: str | None = field(
        default="top_probabilities", metadata=doc("column to write the values to; `null`: not written")
    )

    def __post_init__(self) -> None:
        require(self.k >= 1, self, f"k is {self.k}; give a number from 1")
        require(not (self.labels and self.file), self, "give labels or file, not both")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input,)

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        spec = _classes(self, columns[self.input])
        require(len(spec.shape) == 2, self, f"column {spec.name!r} has {len(spec.shape)} axes; it takes 2")
        classes = spec.shape[1]
        require(classes is None or self.k <= classes, self, f"k is {self.k}, but there are only {classes} classes")
        _check_count(self, self.labels, classes)
        dtype = DType.BYTES if self.labels or self.file else DType.INT64
        found = TensorSpec(self.output, dtype, (None, self.k))
        return (found,) if self.values is None else (found, TensorSpec(self.values, spec.dtype, (None, self.k)))

    def open(self, folder: Path) -> Apply:
        names = read_labels(self, folder, self.labels, self.file) if self.labels or self.file else None

        def apply(columns: Columns) -> Columns:
            values = columns[self.input]
            if values.ndim != 2 or values.shape[1] < self.k:
                raise BackendFailed(f"top_k: k is {self.k}, but rows of {self.input!r} are {values.shape[1:]}")
            best = np.argsort(-as_float(values), axis=1, kind="stable")[:, : self.k].astype(np.int64, copy=False)
            written = {self.output: best if names is None else name_classes(best, names, self.input)}
            if self.values is not None:
                written[self.values] = np.take_along_axis(values, best, axis=1)
            return written

        return apply


@dataclass(frozen=True, kw_only=True)
class NameLabels(ColumnStep):
    """Turn the numbers of classes into their labels."""

    name: ClassVar[str] = "labels"
    labels: Labels = field(default=(), metadata=_LABELS)
    file: str | None = field(default=None, metadata=_LABELS_FILE)

    def __post_init__(self) -> None:
        require(bool(self.labels) != bool(self.file), self, "give either labels or file")

    def result(self, spec: TensorSpec) -> TensorSpec:
        whole = numeric(self, spec).dtype is not DType.BOOL and not spec.dtype.is_float
        require(whole, self, f"column {spec.name!r} is {spec.dtype}; it works on whole numbers, such as arg_max writes")
        return replace(spec, dtype=DType.BYTES)

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        names = read_labels(self, folder, self.labels, self.file)
        return lambda column: name_classes(column, names, self.input)


@dataclass(frozen=True, kw_only=True)
class Threshold(ColumnStep):
    """Compare values with a threshold: BOOL, or a text where `then` and `otherwise` are given."""

    name: ClassVar[str] = "threshold"
    at_least: float | tuple[float, ...] = field(
        default=0.5, metadata=doc("true from here on: one number, or one for each class")
    )
    then: str | None = field(default=None, metadata=doc("text for true"))
    otherwise: str | None = field(default=None, metadata=doc("text for false"))

    def __post_init__(self) -> None:
        require((self.then is None) == (self.otherwise is None), self, "give both then and otherwise, or neither")

    def result(self, spec: TensorSpec) -> TensorSpec:
        classes = numeric(self, spec).shape[-1] if len(spec.shape) > 1 else 1
        if isinstance(self.at_least, tuple):
            _check_count(self, self.at_least, classes)
        return replace(spec, dtype=DType.BOOL if self.then is None else DType.BYTES)

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def threshold(column: Array) -> Array:
            refuse_nan(column, self.input)
            reached: Array = column >= np.asarray(self.at_least, as_float(column).dtype)
            if self.then is None:
                return reached
            return np.array([self.otherwise, self.then], dtype=object)[reached.astype(np.intp)]

        return threshold


@dataclass(frozen=True, kw_only=True)
class Decide(ColumnStep):
    """Turn one probability per row into a decision: the one with the highest threshold reached."""

    name: ClassVar[str] = "decide"
    thresholds: dict[str, float] = field(
        metadata=doc("`decision: least value`, rising, such as `{review: 0.3, block: 0.8}`")
    )
    otherwise: str = field(metadata=doc("decision below the first threshold"))

    def __post_init__(self) -> None:
        values = list(self.thresholds.values())
        require(bool(values), self, "thresholds is empty; give at least one decision")
        rising = all(low < high for low, high in itertools.pairwise(values))
        require(rising and not np.isnan(values).any(), self, f"thresholds must rise; they are {values}")

    def result(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(one_per_row(self, numeric(self, spec)).name, DType.BYTES, (None,))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        decisions = np.array([self.otherwise, *self.thresholds], dtype=object)

        def decide(column: Array) -> Array:
            values = flat(column, self.input)
            refuse_nan(values, self.input)
            # thresholds in the values' own type: 0.3 as FP32 is not below 0.3
            limits = np.array(list(self.thresholds.values()), dtype=as_float(values).dtype)
            return decisions[np.searchsorted(limits, values, side="right")]

        return decide


@dataclass(frozen=True, kw_only=True)
class UnknownBelow(Step):
    """Replace the label by "unknown" where the model is not sure, or names a class kept for that.

    Not sure: the confidence is below `at_least` (or the label's own `per_label`), or is no number.
    """

    name: ClassVar[str] = "unknown_below"
    input: str = field(default="label", metadata=doc("column of labels"))
    output: str | None = field(default=None, metadata=doc("column to write; default: the input, in place"))
    confidence: str | None = field(
        default=None, metadata=doc("column of confidences; of several values in a row the largest counts")
    )
    at_least: float = field(default=0.5, metadata=doc("least confidence that keeps a label"))
    per_label: dict[str, float] = field(
        default_factory=dict, metadata=doc("`label: least confidence`, where it differs")
    )
    reject: Labels = field(default=(), metadata=doc("labels that always become unknown"))
    unknown: str = field(default="unknown", metadata=doc("text for unknown"))

    def __post_init__(self) -> None:
        require(self.confidence is not None or bool(self.reject), self, "give confidence, reject or both")
        needed = not self.per_label or self.confidence is not None
        require(needed, self, "per_label needs the column of confidences; give confidence")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input,) if self.confidence is None else (self.input, self.confidence)

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        textual(self, columns[self.input])
        if self.confidence is not None:
            numeric(self, columns[self.confidence])
        return (TensorSpec(self.output or self.input, DType.BYTES, (None,)),)

    def open(self, folder: Path) -> Apply:
        rejected = frozenset(str(label) for label in self.reject)

        def apply(columns: Columns) -> Columns:
            labels = texts_of(columns[self.input], self.input)
            unsure = np.array([label in rejected for label in labels], dtype=bool)
            if self.confidence is not None:
                unsure |= self._below(labels, columns[self.confidence])
            kept = [self.unknown if doubt else label for label, doubt in zip(labels, unsure.tolist(), strict=True)]
            return {self.output or self.input: objects(kept, len(kept))}

        return apply

    def _below(self, labels: list[str], column: Array) -> Array:
        confidence = as_float(column)
        if confidence.ndim > 1:
            confidence = confidence.max(axis=tuple(range(1, confidence.ndim)), initial=-np.inf)
        least = np.array([self.per_label.get(label, self.at_least) for label in labels], dtype=confidence.dtype)
        below: Array = ~(confidence >= least)  # NaN is below everything
        return below


def read_labels(step: Step, folder: Path, labels: Labels, file: str | None) -> list[str]:
    """The labels of a step, from its parameter or from a file of the model's folder."""
    if file is None:
        return [str(label) for label in labels]
    try:
        lines = resource(step, folder, file).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    names = [line.strip() for line in lines if line.strip()]
    require(bool(names), step, f"{file} has no labels; write one per line as UTF-8 text")
    return names


def name_classes(classes: Array, names: list[str], column: str) -> Array:
    """The labels of class numbers, any shape. Raises ``BackendFailed`` for a class without a label."""
    wrong = classes[(classes < 0) | (classes >= len(names))]
    if wrong.size:
        raise BackendFailed(f"column {column!r} has class {wrong.flat[0]}, but there are only {len(names)} labels")
    named: Array = np.array(names, dtype=object)[classes]
    return named


def refuse_nan(column: Array, name: str) -> None:
    """Raise ``InvalidRows`` for rows with NaN: comparing it would decide the same way each time."""
    if column.dtype.kind in "biu":
        return
    missing = np.isnan(column).reshape(len(column), -1 if len(column) else 0).any(axis=1)
    if missing.any():
        rows: list[int] = np.flatnonzero(missing).tolist()
        raise InvalidRows(dict.fromkeys(rows, f"{name}: the model gave NaN, which decides nothing"))


def _classes(step: Step, spec: TensorSpec) -> TensorSpec:
    fits = len(numeric(step, spec).shape) >= 2
    require(fits, step, f"column {spec.name!r} has one value per row; it works on several (classes)")
    return spec


def _check_count(step: Step, given: tuple[Any, ...], classes: int | None) -> None:
    fits = not given or classes is None or len(given) == classes
    require(fits, step, f"{len(given)} are given for {classes} classes")
