"""The check of what callers sent against what ``model.yaml`` declares, the same in every mode.

In flow columns of the declared element types, out flow the same columns with text as ``str`` and
images as ``bytes``; every wrong row is named in one ``InvalidRows``. Knows no protocol and no step.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import numpy as np

from forwardpass.errors import InvalidInput, InvalidRows, nearest
from forwardpass.pipeline.columns import objects
from forwardpass.pipeline.image import check_size, open_image
from forwardpass.pipeline.text import shorten, to_text
from forwardpass.types import Array, Columns, DType, InputSpec, InputType

Wrong = dict[int, str]


class InputCheck:
    """Conforms a batch to declared inputs; false where none are declared."""

    def __init__(self, inputs: tuple[InputSpec, ...]) -> None:
        self.inputs = inputs

    def __bool__(self) -> bool:
        return bool(self.inputs)

    def __call__(self, columns: Columns) -> Columns:
        """The declared columns: texts and categories as ``str``, images as ``bytes``.

        An image may be a base64 ``str`` (also a ``data:`` URL), which is decoded. Raises
        ``InvalidRows`` naming each wrong row's input and value, ``InvalidInput`` where an input is
        not there at all.
        """
        if not self.inputs:
            return columns
        conformed: Columns = {}
        wrong: dict[int, list[str]] = {}
        for spec in self.inputs:
            if spec.name not in columns:
                raise InvalidInput(f"input {spec.name!r} is missing.{nearest(spec.name, columns)}")
            conformed[spec.name], found = _CHECKS[spec.type](columns[spec.name], spec)
            for row, message in found.items():
                wrong.setdefault(row, []).append(f"input {spec.name!r}: {message}")
        if wrong:
            raise InvalidRows({row: "; ".join(messages) for row, messages in sorted(wrong.items())})
        return conformed


def _check_numbers(column: Array, spec: InputSpec) -> tuple[Array, Wrong]:
    if spec.tensor.dtype is DType.BYTES:
        return column, {}
    if column.dtype.kind not in "biuf" and column.dtype != spec.tensor.dtype.numpy:
        raise InvalidInput(f"input {spec.name!r} is {DType.of(column)}; send {spec.tensor.dtype}")
    wrong: Wrong = {}
    rows = np.atleast_1d(column)
    if spec.minimum is not None:
        _note(wrong, rows, rows < spec.minimum, f"is below the minimum {spec.minimum:g}")
    if spec.maximum is not None:
        _note(wrong, rows, rows > spec.maximum, f"is above the maximum {spec.maximum:g}")
    if spec.required and not spec.allow_nan and spec.tensor.dtype.is_float:
        _note(wrong, rows, np.isnan(rows), "is not allowed; send a number")
    return column, wrong


def _note(wrong: Wrong, column: Array, bad: Array, message: str) -> None:
    if not bad.any():
        return
    rows = np.flatnonzero(bad.reshape(len(column), -1).any(axis=1))
    for row in rows.tolist():
        wrong[row] = f"{np.atleast_1d(column[row])[np.atleast_1d(bad[row])][0]} {message}"


def _check_texts(column: Array, spec: InputSpec) -> tuple[Array, Wrong]:
    return _check_each(column, spec, lambda value: _text(value, spec), "")


def _check_categories(column: Array, spec: InputSpec) -> tuple[Array, Wrong]:
    allowed = frozenset(spec.categories)
    if allowed and _all_among(column, allowed):
        return column, {}

    def category(value: Any) -> str:
        text = _text(value, spec)
        if allowed and text not in allowed:
            raise ValueError(f"{shorten(text)} is not allowed.{nearest(text[:100], allowed)}")
        return text

    return _check_each(column, spec, category, "")


def _all_among(column: Array, allowed: frozenset[str]) -> bool:
    """Whether all rows are surely right; said in one pass, for large batches have few wrong ones."""
    try:
        return column.ndim == 1 and allowed.issuperset(column.tolist())
    except TypeError:  # what cannot be hashed is no category
        return False


def _check_images(column: Array, spec: InputSpec) -> tuple[Array, Wrong]:
    return _check_each(column, spec, lambda value: _image(value, spec), b"")


def _check_each(column: Array, spec: InputSpec, check: Callable[[Any], Any], empty: Any) -> tuple[Array, Wrong]:
    """Each row through ``check``, which raises ``ValueError``; what was left out becomes ``empty``."""
    wrong: Wrong = {}
    values: list[Any] = []
    for row, value in enumerate(_one_axis(column, spec).tolist()):
        try:
            if value is None or (isinstance(value, str | bytes) and not value):
                if spec.required:
                    raise ValueError("is empty or missing; send a value")
                values.append(empty)
            else:
                values.append(check(value))
        except ValueError as reason:
            wrong[row] = str(reason)
    return (column, wrong) if wrong else (objects(values, len(values)), {})


def _one_axis(column: Array, spec: InputSpec) -> Array:
    """Protocols send one value per row as ``[rows]`` or ``[rows, 1]``."""
    if column.size != len(column):
        raise InvalidInput(f"input {spec.name!r} has shape {list(column.shape)}; send one {spec.type} per row")
    return column.reshape(len(column))


def _text(value: Any, spec: InputSpec) -> str:
    text = to_text(value)
    if spec.max_length is not None and len(text) > spec.max_length:
        raise ValueError(f"{shorten(text)} has {len(text)} characters; at most {spec.max_length} are allowed")
    return text


def _image(value: Any, spec: InputSpec) -> bytes:
    data = _from_base64(value) if isinstance(value, str) else value
    if not isinstance(data, bytes):
        raise ValueError(f"{shorten(value)} is no image; send the bytes of an image file")
    if spec.max_pixels is not None:
        check_size(open_image(data).size, spec.max_pixels)
    return data


def _from_base64(text: str) -> bytes:
    body = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{shorten(text)} is not base64; send the image file's bytes, or their base64") from None


_CHECKS: dict[InputType, Callable[[Array, InputSpec], tuple[Array, Wrong]]] = {
    InputType.TENSOR: _check_numbers,
    InputType.NUMBER: _check_numbers,
    InputType.TEXT: _check_texts,
    InputType.CATEGORY: _check_categories,
    InputType.IMAGE: _check_images,
}
