"""One input's values, as people write them, to a column of its declared type and shape.

Strict: a value is taken only where the type holds it without loss (``3.0`` is a whole number,
``3.5`` and ``"3"`` are not, ``true`` is 1), apart from the rounding of a float. All numbers are
converted at once where that is surely right, else each by itself, so that every wrong row is named.
"""

from __future__ import annotations

import base64
import binascii
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forwardpass.errors import InvalidInput, InvalidRows
from forwardpass.types import Array, DType, InputSpec

_EXACT = 2**53  # from here on a float64 may stand for another whole number than the one written
_TEXTS: set[type] = {str, bytes}
_PLAIN: set[type] = {list, tuple, float, int, bool}
_DEEPEST = 32  # axes; numpy stops at 64, and Python at a thousand
_REPR = reprlib.Repr()
_REPR.maxstring = 60


def create_column(value: Any, spec: InputSpec, batched: bool) -> Array:
    """An array-like in the input's declared type and shape; ``None`` stands for a value left out.

    Raises ``InvalidInput``, or ``InvalidRows`` where a batched model's rows are wrong.
    """
    wanted = spec.tensor.dtype.numpy
    if isinstance(value, np.ndarray) and value.dtype == wanted and wanted.kind != "O":
        array = value
    else:
        if batched and not spec.required and isinstance(value, list | tuple):
            missing = missing_row(spec)
            value = [missing if row is None else row for row in value]
        array = _convert(value, spec, batched)
    _check_shape(array, spec, batched)
    return array


def _convert(value: Any, spec: InputSpec, batched: bool) -> Array:
    dtype = spec.tensor.dtype
    types = _types(value)
    try:
        if dtype.is_float and dtype is not DType.BF16 and types and types <= _PLAIN:
            floats = _floats(value, dtype)
            if np.isfinite(floats).all() and floats.shape != (0,):
                return floats
        objects = dtype is DType.BYTES or not _TEXTS.isdisjoint(types)
        raw: Array = np.asarray(value, object if objects else None)
    except ValueError:
        raise _uneven(value, spec, batched) from None
    if batched and raw.shape == (0,):
        return np.empty([axis or 0 for axis in (0, *spec.tensor.shape[1:])], dtype.numpy)
    if dtype is DType.BYTES:
        return raw if _all_texts(raw) else _convert_each(raw, spec, batched)
    array = _numbers(raw, dtype)
    return array if array is not None else _convert_each(np.asarray(value, object), spec, batched)


def _floats(value: Any, dtype: DType) -> Array:
    """Nested lists of numbers at once; what does not fit becomes infinite."""
    with np.errstate(over="ignore"):
        try:
            return np.asarray(value, dtype.numpy)
        except OverflowError:  # a whole number that no float holds
            return np.array(np.inf, dtype.numpy)


def _types(value: Any, depth: int = 0) -> set[type]:
    """The types of what nested lists hold.

    A text among numbers must never reach numpy: it would make every element as wide as that text.
    """
    if not isinstance(value, list | tuple):
        return set()
    if depth == _DEEPEST:
        return _TEXTS
    found = set(map(type, value))
    if not found.isdisjoint((list, tuple)):
        for item in value:
            found |= _types(item, depth + 1)
    return found


def _all_texts(raw: Array) -> bool:
    return set(map(type, raw.reshape(-1))) <= _TEXTS


def _numbers(raw: Array, dtype: DType) -> Array | None:
    """All numbers at once; ``None`` where one may not fit, so that each is looked at by itself."""
    if raw.dtype.kind == "V" and raw.dtype.name == "bfloat16":
        raw = raw.astype(np.float32)
    if raw.dtype.kind not in "biuf":
        return None
    if dtype.is_float:
        with np.errstate(over="ignore"):
            array = raw.astype(dtype.numpy, copy=False)
        return array if np.isfinite(array).all() or np.array_equal(np.isinf(array), np.isinf(raw)) else None
    if raw.dtype.kind == "f" and not ((np.abs(raw) < _EXACT) & (raw == np.trunc(raw))).all():
        return None
    least, most = _limits(dtype)
    if raw.size and not least <= int(raw.min()) <= int(raw.max()) <= most:
        return None
    return raw.astype(dtype.numpy, copy=False)


def _convert_each(raw: Array, spec: InputSpec, batched: bool) -> Array:
    """Each value by itself, collecting the rows that are wrong; ``raw`` is an array of objects."""
    dtype = spec.tensor.dtype
    convert: Callable[[Any, InputSpec], Any] = _text if dtype is DType.BYTES else _number
    if _holds_lists(raw):
        raise _uneven(raw if raw.ndim else raw.item(), spec, batched)
    values: list[Any] = [0] * raw.size
    wrong: dict[int, str] = {}
    for index, value in enumerate(raw.reshape(-1)):
        try:
            values[index] = convert(value, spec)
        except ValueError as reason:
            wrong[index] = str(reason)
    array = np.empty(raw.size, dtype.numpy)
    with np.errstate(over="ignore"):
        array[:] = values
    if dtype.is_float:
        large = np.isinf(array) & ~np.isinf(np.array(values, np.float64))
        wrong.update({index: f"{values[index]} does not fit {dtype}" for index in np.flatnonzero(large).tolist()})
    if wrong:
        raise _wrong_values(wrong, spec, raw.shape, batched)
    return array.reshape(raw.shape)


def _wrong_values(wrong: dict[int, str], spec: InputSpec, shape: tuple[int, ...], batched: bool) -> InvalidInput:
    """The first wrong value of each row, by its place among all values."""
    per_row = math.prod(shape[1:])
    rows: dict[int, str] = {}
    for index in sorted(wrong):
        rows.setdefault(index // per_row, f"input {spec.name!r}: {wrong[index]}")
    return InvalidRows(rows) if batched else InvalidInput(rows[min(rows)])


def _text(value: Any, spec: InputSpec) -> str | bytes:
    if isinstance(value, str | bytes):
        return value
    if is_base64(value):
        return _from_base64(value["b64"])
    if value is None:
        if spec.required:
            raise ValueError('is missing (null or empty); send a text, or "b64" for bytes')
        return ""
    raise ValueError(f'{short(value)} is not a text; write it in quotes, or send bytes as {{"b64": …}}')


def _number(value: Any, spec: InputSpec) -> bool | int | float:
    dtype = spec.tensor.dtype
    if value is None:
        if spec.required or not dtype.is_float:
            raise ValueError(f"is missing (null or empty); send a value of {dtype}")
        return float("nan")
    number = value.item() if isinstance(value, np.generic) else value
    if not isinstance(number, int | float):
        raise ValueError(f"{short(value)} is not a number; it must be {dtype}")
    return _float(number, dtype) if dtype.is_float else _whole_number(number, dtype)


def _whole_number(number: int | float, dtype: DType) -> int:
    least, most = _limits(dtype)
    if number != number or number in (float("inf"), float("-inf")) or number != int(number):
        raise ValueError(f"{number} is not a whole number; it must be {dtype}")
    if not least <= number <= most:
        raise ValueError(f"{short(number)} does not fit {dtype} ({least} to {most})")
    return int(number)


def _float(number: int | float, dtype: DType) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError(f"{short(number)} does not fit {dtype}") from None


def _limits(dtype: DType) -> tuple[int, int]:
    if dtype is DType.BOOL:
        return 0, 1
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def is_base64(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"b64"}


def _from_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError(f"{short(text)} is not base64") from None


def missing_row(spec: InputSpec) -> Any:
    """What stands for a row that was left out; ``None`` where the type or shape has nothing for it."""
    tail = spec.tensor.shape[1:]
    axes = [axis for axis in tail if axis is not None]
    if spec.required or len(axes) < len(tail):
        return None
    if spec.tensor.dtype is DType.BYTES:
        return np.full(axes, "", object).tolist()
    return np.full(axes, np.nan).tolist() if spec.tensor.dtype.is_float else None


# Shapes


def _check_shape(array: Array, spec: InputSpec, batched: bool) -> None:
    wanted = spec.tensor.shape
    first = 1 if batched else 0  # a batch has any number of rows
    fixed = zip(array.shape[first:], wanted[first:], strict=False)
    if array.ndim == len(wanted) and all(axis is None or size == axis for size, axis in fixed):
        return
    if batched and array.ndim:
        shape = list(array.shape[1:])
        raise InvalidInput(f"input {spec.name!r}: rows have shape {shape}; the model takes {axes_in_words(spec)}")
    what = "send a list with one value per row" if batched else f"the model takes {axes_in_words(spec, whole=True)}"
    raise InvalidInput(f"input {spec.name!r} has shape {list(array.shape)}; {what}")


def _uneven(value: Any, spec: InputSpec, batched: bool) -> InvalidInput:
    """Which rows of a nested list are not like the model's, or else not like the first."""
    if not batched:
        return InvalidInput(
            f"input {spec.name!r} is nested unevenly; the model takes {axes_in_words(spec, whole=True)}"
        )
    shapes = [_shape(row) for row in value]
    tail = spec.tensor.shape[1:]
    wrong = {
        at: f"input {spec.name!r}: {_shape_in_words(value[at], shape)}; the model takes {axes_in_words(spec)}"
        for at, shape in enumerate(shapes)
        if shape is None or len(shape) != len(tail) or any(a not in (None, n) for n, a in zip(shape, tail, strict=True))
    }
    if not wrong:
        wrong = {
            at: f"input {spec.name!r}: shape {list(shape)} where row 0 has {list(shapes[0])}; send unlike rows apart"
            for at, shape in enumerate(shapes)
            if shape is not None and shapes[0] is not None and shape != shapes[0]
        }
    return InvalidRows(wrong) if wrong else InvalidInput(f"input {spec.name!r} is nested unevenly")


def _shape(row: Any) -> tuple[int, ...] | None:
    """A nested list's shape; ``None`` where it is uneven in itself."""
    try:
        items = np.asarray(row, object)
    except ValueError:
        return None
    return None if _holds_lists(items) else items.shape


def _holds_lists(items: Array) -> bool:
    return any(isinstance(item, list | tuple | np.ndarray) for item in items.reshape(-1))


def _shape_in_words(row: Any, shape: tuple[int, ...] | None) -> str:
    if row is None:
        return "is missing (null or empty)"
    return "is nested unevenly" if shape is None else f"shape {list(shape)}"


def axes_in_words(spec: InputSpec, whole: bool = False) -> str:
    axes = spec.tensor.shape if whole else spec.tensor.shape[1:]
    return f"[{', '.join('?' if axis is None else str(axis) for axis in axes)}]"


def short(value: Any) -> str:
    """A value in a message: never longer than a line, and quick to write however large it is."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = _REPR.repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
