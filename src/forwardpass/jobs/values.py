"""Values between Arrow, in which data sets are held, and numpy, in which batches move.

Strict as the doors are: a value is taken only where the type holds it, and each row that is wrong
is told with its reason, while the others go on. Knows no files and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forwardpass.engine.column import create_column
from forwardpass.engine.rows import parse_text
from forwardpass.errors import InvalidInput, InvalidRows
from forwardpass.types import Array, DType, InputSpec, InputType, TensorSpec

Column: TypeAlias = pa.Array | list[Any]  # of Arrow, or of Python values where a format knows no types

_ARROW = {
    DType.BOOL: pa.bool_(),
    DType.UINT8: pa.uint8(),
    DType.UINT16: pa.uint16(),
    DType.UINT32: pa.uint32(),
    DType.UINT64: pa.uint64(),
    DType.INT8: pa.int8(),
    DType.INT16: pa.int16(),
    DType.INT32: pa.int32(),
    DType.INT64: pa.int64(),
    DType.FP16: pa.float16(),
    DType.BF16: pa.float32(),
    DType.FP32: pa.float32(),
    DType.FP64: pa.float64(),
    DType.BYTES: pa.string(),
}


def take(columns: Mapping[str, Column], places: Sequence[int]) -> dict[str, Column]:
    """Some of the rows; their places are ascending."""
    if all(len(places) == len(column) for column in columns.values()):
        return dict(columns)
    index = pa.array(places, pa.int64())

    def taken(column: Column) -> Column:
        return [column[at] for at in places] if isinstance(column, list) else column.take(index)

    return {name: taken(column) for name, column in columns.items()}


# To columns of a model


def input_column(column: Column, spec: InputSpec, typed: bool) -> Array:
    """The rows of one input. Raises ``InvalidRows`` where some cannot be taken, ``InvalidInput`` where none can.

    ``typed`` false: numbers are written as text, and an empty text is a missing one.
    """
    if isinstance(column, list):
        return create_column(column, spec, True)
    if not typed and spec.tensor.dtype is not DType.BYTES:
        return _parsed(column, spec)
    quick = _quick(column, spec)
    return create_column(column.to_pylist() if quick is None else quick, spec, True)


def side_by_side(columns: Sequence[Column], spec: InputSpec, typed: bool) -> Array:
    """The rows of an input that is a vector, each element from a column of its own."""
    element = InputSpec(
        TensorSpec(spec.name, spec.tensor.dtype, spec.tensor.shape[:1]),
        required=spec.required,
        allow_nan=spec.allow_nan,
    )
    wrong: dict[int, str] = {}
    arrays: list[Array] = []
    for column in columns:
        try:
            arrays.append(input_column(column, element, typed))
        except InvalidRows as error:
            wrong.update({row: reason for row, reason in error.rows.items() if row not in wrong})
    if wrong:
        raise InvalidRows(wrong)
    return np.stack(arrays, axis=1)


def _quick(column: pa.Array, spec: InputSpec) -> Array | None:
    """All values at once, where that is surely right; else None."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _quick(column.dictionary_decode(), spec)
    if spec.tensor.dtype is DType.BYTES:
        if column.null_count or not _is_text(kind):
            return None
        values = _shared(column) if spec.type is InputType.CATEGORY else column.to_numpy(zero_copy_only=False)
        return values if len(spec.tensor.shape) == 1 else values.reshape(-1, *spec.tensor.shape[1:])
    if column.null_count and not (pa.types.is_floating(kind) and not spec.required):
        return None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _quick_lists(column)
    if pa.types.is_decimal(kind):
        return _quick(column.cast(pa.float64()), spec)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        array: Array = column.to_numpy(zero_copy_only=False)
        return array.reshape(-1, *[1 for _ in spec.tensor.shape[1:]])
    return None


def _shared(column: pa.Array) -> Array:
    """Texts of which there are few kinds, each made once: making and hashing a million takes longer than the rest."""
    encoded = column.dictionary_encode()
    kinds = np.array(encoded.dictionary.to_pylist(), object)
    texts: Array = kinds[encoded.indices.to_numpy(zero_copy_only=False)]
    return texts


def _quick_lists(column: pa.Array) -> Array | None:
    """Lists of one length as one array; None where lengths differ or something is missing."""
    shape: list[int] = [len(column)]
    while not pa.types.is_primitive(column.type):
        if column.null_count or not hasattr(column, "flatten"):
            return None
        lengths = pc.list_value_length(column)
        if not len(column) or pc.min(lengths) != pc.max(lengths):
            return None
        shape.append(lengths[0].as_py())
        column = column.flatten()
    if column.null_count:
        return None
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _parsed(column: pa.Array, spec: InputSpec) -> Array:
    """Numbers that are written as text."""
    if pa.types.is_string(column.type) and spec.tensor.dtype.is_float and not (column.null_count and spec.required):
        try:
            floats = pc.cast(pc.utf8_trim_whitespace(column), pa.float64())
        except pa.ArrowInvalid:
            pass
        else:
            return input_column(floats, spec, True)
    values = [None if text is None else parse_text(text, spec) for text in column.to_pylist()]
    return create_column(_nested(values, spec), spec, True)


def _nested(values: list[Any], spec: InputSpec) -> list[Any]:
    for _ in spec.tensor.shape[1:]:
        values = [value if value is None and not spec.required else [value] for value in values]
    return values


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


# To columns of a data set


def arrow_field(spec: TensorSpec, batched: bool = True) -> pa.Field:
    """The column that an output becomes, with a list for each axis that a row has."""
    kind = _ARROW[spec.dtype]
    for _ in spec.shape[1:] if batched else spec.shape:
        kind = pa.list_(kind)
    return pa.field(spec.name, kind)


def output_array(array: Array, field: pa.Field) -> pa.Array:
    """An output as a column. Raises ``InvalidRows`` for rows that hold bytes which are no text."""
    if array.dtype.kind == "O":
        texts = array.tolist()
        if array.ndim > 1 or set(map(type, texts)) != {str}:
            texts = _texts(texts)
        return pa.array(texts, field.type)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    for size, before in zip(reversed(array.shape[1:]), _products(array.shape), strict=True):
        offsets = pa.array(np.arange(before + 1, dtype=np.int32) * size)
        flat = pa.ListArray.from_arrays(offsets, flat)
    return flat.cast(field.type) if flat.type != field.type else flat


def _products(shape: tuple[int, ...]) -> list[int]:
    """Number of lists at each depth, the innermost first."""
    counts = [shape[0]]
    for size in shape[1:-1]:
        counts.append(counts[-1] * size)
    return list(reversed(counts)) if len(shape) > 1 else []


def _texts(rows: list[Any]) -> list[Any]:
    wrong: dict[int, str] = {}

    def text(value: Any, row: int) -> Any:
        if isinstance(value, list):
            return [text(item, row) for item in value]
        if not isinstance(value, bytes):
            return value
        try:
            return value.decode()
        except UnicodeDecodeError:
            wrong[row] = f"the model gave bytes that are no UTF-8 text ({value[:20]!r})"
            return ""

    texts = [text(value, row) for row, value in enumerate(rows)]
    if wrong:
        raise InvalidRows(wrong)
    return texts


def typed_array(column: Column, field: pa.Field) -> tuple[pa.Array, dict[int, str]]:
    """A column in its declared type, null where a value is not of that type; and those rows' reasons."""
    if isinstance(column, pa.Array) and column.type == field.type:
        return column, {}
    try:
        whole = pa.array(column, field.type) if isinstance(column, list) else pc.cast(column, field.type)
        return whole, {}
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        pass
    values: list[Any] = []
    wrong: dict[int, str] = {}
    given: list[Any] = column if isinstance(column, list) else column.to_pylist()
    for row, value in enumerate(given):
        try:
            cell = pa.array([value]) if isinstance(column, pa.Array) else pa.array([value], field.type)
            values.append(pc.cast(cell, field.type)[0].as_py())
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            values.append(None)
            wrong[row] = f"column {field.name!r}: {_short(value)} is not {field.type}, as those of the first rows are"
    return pa.array(values, field.type), wrong


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def require_type(name: str, kind: pa.DataType, spec: InputSpec, typed: bool) -> None:
    """Raises ``InvalidInput`` where a column of this type cannot hold an input's values."""
    wants_text = spec.tensor.dtype is DType.BYTES
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind) or (not typed and not wants_text):
        return
    inner = kind
    while pa.types.is_list(inner) or pa.types.is_large_list(inner) or pa.types.is_fixed_size_list(inner):
        inner = inner.value_type
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    numeric = any(is_kind(inner) for is_kind in kinds)
    if numeric == wants_text or (wants_text and not _is_text(inner)):
        wanted = "text or bytes" if wants_text else f"numbers ({spec.tensor.dtype})"
        raise InvalidInput(
            f"column {name!r} is {kind}; input {spec.name!r} takes {wanted}. Give it another column (--map), or cast it"
        )
