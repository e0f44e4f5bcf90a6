"""Labels and a model's outputs, brought to what metrics compare: texts of classes, probabilities, or numbers.

A label "3" in a file, 3 in a column of whole numbers and 3.0 where a table made floats of them are one class.
What cannot be compared is refused with the reason. Knows no metric and no rows' inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardpass.errors import InvalidInput
from forwardpass.types import Array

NO_ANSWER = "\0"  # the class of a row whose scores are no numbers; equal to no label
_SHOWN = 3  # values that a message names


def is_scores(column: Array) -> bool:
    """Whether it holds a score per class: floats [rows, k], k over 1."""
    return column.dtype.kind not in "OSUiub" and column.ndim == 2 and column.shape[1] > 1


def is_number(column: Array) -> bool:
    """Whether it holds one number per row: [rows] or [rows, 1]."""
    return column.dtype.kind not in "OSU" and column[:1].size == 1


def is_label(column: Array) -> bool:
    """Whether it holds one class per row, as text, whole number or truth value."""
    return column.dtype.kind in "OSUiub" and column[:1].size == 1


def class_texts(values: Array) -> Array:
    """Classes as texts. Shape: [rows]."""
    return np.array([_text(value) for value in values.ravel().tolist()], str)


def numbers(values: Array, what: str) -> Array:
    """Float64 [rows]. Raises ``InvalidInput`` where a value is no number; ``what`` names the column."""
    try:
        flat = [value.decode() if isinstance(value, bytes) else value for value in values.ravel().tolist()]
        return np.array(flat, np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{what} holds {_sample(values)}, which are no numbers") from None


def class_indices(labels: Array, classes: int) -> Array:
    """Labels as places among ``classes`` scores: whole numbers below it, or false and true for two of them."""
    texts = class_texts(labels)
    if classes == 2 and set(texts.tolist()) <= {"false", "true"}:
        return np.array(texts == "true", np.int64)
    known = {str(index): index for index in range(classes)}
    if not set(texts.tolist()) <= set(known):
        strange = sorted(set(texts.tolist()) - set(known))[:_SHOWN]
        raise InvalidInput(
            f"the output has {classes} scores without names, so labels must be whole numbers from 0 to {classes - 1}, "
            f"not {', '.join(map(repr, strange))}"
        )
    return np.array([known[text] for text in texts.tolist()], np.int64)


def answered_classes(labels: Array, column: Array) -> tuple[Array, Array]:
    """Right and given classes as texts, of an output of classes, of scores per class, or of one probability."""
    if is_scores(column):
        best = np.where(np.isnan(column).any(axis=1), NO_ANSWER, _as_text(column.argmax(axis=1)))
        return _as_text(class_indices(labels, column.shape[1])), best
    if is_label(column):
        truth, given = class_texts(labels), class_texts(column)
        if not set(truth.tolist()) & set(given.tolist()):
            raise InvalidInput(f"labels ({_sample(truth)}) and answers ({_sample(given)}) have no class in common")
        return truth, given
    table = two_columns(column)
    best = np.where(np.isnan(table).any(axis=1), NO_ANSWER, _as_text((table[:, 1] >= 0.5).astype(np.int64)))
    return _as_text(class_indices(labels, 2)), best


def two_columns(column: Array) -> Array:
    """One probability per row as those of both classes. Raises ``InvalidInput`` where it is none."""
    if not is_number(column) or column.dtype.kind in "iub":
        raise InvalidInput(f"an output of shape {list(column.shape)} holds neither classes nor probabilities")
    high = np.asarray(column, np.float64).ravel()
    if np.nanmin(high, initial=0.0) < 0 or np.nanmax(high, initial=1.0) > 1:
        raise InvalidInput("the output holds numbers outside of 0 to 1, which are no probabilities")
    return np.stack([1 - high, high], axis=1)


def _as_text(indices: Array) -> Array:
    return indices.astype(str)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _sample(values: Array) -> str:
    first = list(dict.fromkeys(_text(value) for value in values.ravel().tolist()))[:_SHOWN]
    return ", ".join(map(repr, first))
