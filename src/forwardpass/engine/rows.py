"""Rows as people write them (lists, dictionaries, lines of CSV) to columns, and answers back.

Finds each input's values, whatever the way they are written, and joins answers again. How values
become a column of the declared type is in ``column.py``. Knows no ranges and no categories: the
pipeline checks those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from forwardpass.engine.column import axes_in_words, create_column, is_base64, missing_row, short
from forwardpass.errors import InvalidInput, InvalidRows, nearest
from forwardpass.types import Array, Columns, DType, InputSpec, InputType, Signature

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_TRUTH = {"true": True, "false": False}


def columns_from_mapping(mapping: Mapping[str, Any], signature: Signature) -> Columns:
    """Columns from array-likes by input name, in the declared types and shapes.

    ``None`` (a whole column, or a row in a list) is allowed where an input is not required: NaN for
    numbers, ``""`` for texts. Raises ``InvalidInput``, or ``InvalidRows`` where some rows are wrong.
    """
    given = {name: value for name, value in mapping.items() if value is not None}
    if wrong := _wrong_names(mapping, given, signature):
        raise InvalidInput(wrong)
    if not given and signature.batched:
        raise InvalidInput(f"no input is given; this model takes {_names(signature)}")
    specs = [spec for spec in signature.inputs if spec.name in given]
    columns = {spec.name: create_column(given[spec.name], spec, signature.batched) for spec in specs}
    rows = _count_rows(columns, signature)
    missing = [spec for spec in signature.inputs if spec.name not in given]
    return {**columns, **{spec.name: left_out(spec, rows) for spec in missing}}


def columns_from_instances(instances: Sequence[Any] | Array, signature: Signature) -> Columns:
    """Columns from one entry per row: a dictionary by input name or, of a single input, its value.

    ``{"b64": "…"}`` stands for bytes. Where the model is not batched there is one instance, which
    holds whole tensors. Raises ``InvalidInput``, or ``InvalidRows`` naming every wrong row.
    """
    if not signature.batched and len(instances) != 1:
        raise InvalidInput(f"this model runs one request at a time; send exactly one instance, not {len(instances)}")
    if isinstance(instances, np.ndarray) and len(signature.inputs) == 1 and signature.batched:
        return columns_from_mapping({signature.inputs[0].name: instances}, signature)
    named = [_by_name(instance, signature) for instance in instances]
    wrong = {row: text for row, item in enumerate(named) if (text := _wrong_instance(item, signature))}
    if wrong:
        raise InvalidRows(wrong) if signature.batched else InvalidInput(wrong[0])
    if not signature.batched:
        whole = {spec.name: _whole(named[0].get(spec.name), spec) for spec in signature.inputs}
        return columns_from_mapping(whole, signature)
    lists = {spec.name: [item.get(spec.name) for item in named] for spec in signature.inputs}
    return {spec.name: create_column(lists[spec.name], spec, True) for spec in signature.inputs}


def columns_from_texts(header: Sequence[str] | None, rows: Sequence[Sequence[str]], signature: Signature) -> Columns:
    """Columns from lines of text values (CSV): numbers are parsed, an empty value is missing.

    ``header`` names the inputs; without one the values stand in the order of the inputs. Where the
    model's one input is a vector, the values of a line are its elements, whatever the header says.
    """
    inputs = signature.inputs
    names = list(header) if header is not None else [spec.name for spec in inputs]
    vector = len(inputs) == 1 and len(inputs[0].tensor.shape) == 2
    width = len(rows[0]) if vector and header is None and rows else len(names)
    uneven = {at: f"has {len(row)} values instead of {width}" for at, row in enumerate(rows) if len(row) != width}
    if uneven:
        raise InvalidRows(uneven)
    if vector:
        values = [[parse_text(text, inputs[0]) for text in row] for row in rows]
        return columns_from_mapping({inputs[0].name: values}, signature)
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidInput(f"the header names {min(twice)!r} more than once")
    if wrong := _wrong_names(dict.fromkeys(names), dict.fromkeys(names), signature):
        raise InvalidInput(wrong)
    at = {name: index for index, name in enumerate(names)}
    cells = {spec.name: [_cell(row[at[spec.name]], spec) for row in rows] for spec in inputs if spec.name in at}
    return columns_from_mapping(cells, signature)


def instances_from_columns(columns: Columns, batched: bool = True) -> list[Any]:
    """Python values, one entry per row: the bare value of a single output, else a dictionary.

    Where the model is not ``batched`` (or an output has no axis at all) there is one entry, which
    holds whole tensors. ``bytes`` stay ``bytes``.
    """
    if not batched or any(array.ndim == 0 for array in columns.values()):
        whole = {name: _python(array) for name, array in columns.items()}
        return [next(iter(whole.values())) if len(whole) == 1 else whole]
    lists = [_python(array) for array in columns.values()]
    if len(lists) == 1:
        return list(lists[0])
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


def _python(value: Any) -> Any:
    """Plain Python values, also where an object array holds arrays of unlike shape."""
    if isinstance(value, np.ndarray):
        return _python(value.tolist()) if value.dtype.kind == "O" else value.tolist()
    if isinstance(value, list):
        return [_python(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


# Which inputs there are


def _wrong_names(mapping: Mapping[str, Any], given: Mapping[str, Any], signature: Signature) -> str:
    names = [spec.name for spec in signature.inputs]
    for name in mapping:
        if name not in names:
            return f"unknown input {name!r}.{nearest(str(name), names)}"
    for spec in signature.inputs:
        if spec.required and spec.name not in given:
            return f"input {spec.name!r} is missing; this model takes {_names(signature)}"
    return ""


def _names(signature: Signature) -> str:
    return ", ".join(spec.name for spec in signature.inputs)


def _by_name(instance: Any, signature: Signature) -> Any:
    """An instance as a dictionary by input name; left as it is where it cannot be one."""
    if isinstance(instance, Mapping) and not (is_base64(instance) and _takes_bytes(signature)):
        return instance
    return {signature.inputs[0].name: instance} if len(signature.inputs) == 1 else instance


def _takes_bytes(signature: Signature) -> bool:
    specs = [spec.tensor for spec in signature.inputs]
    return len(specs) == 1 and specs[0].dtype is DType.BYTES and specs[0].name != "b64"


def _wrong_instance(instance: Any, signature: Signature) -> str:
    if not isinstance(instance, Mapping):
        return f"{short(instance)} is not an object by input name; this model takes {_names(signature)}"
    return _wrong_names(instance, instance, signature)


def _whole(value: Any, spec: InputSpec) -> Any:
    """A request's own tensor; a text, image, category or number is one row of it."""
    return value if spec.type is InputType.TENSOR or value is None else [value]


def _count_rows(columns: Columns, signature: Signature) -> int:
    if not signature.batched:
        return 1
    counts = {name: len(array) for name, array in columns.items()}
    first = next(iter(counts), "")
    for name, count in counts.items():
        if count != counts[first]:
            raise InvalidInput(f"input {name!r} has {count} rows where {first!r} has {counts[first]}")
    return counts.get(first, 0)


def left_out(spec: InputSpec, rows: int) -> Array:
    """Rows of an input that nobody gave. Raises ``InvalidInput`` where it cannot be left out."""
    row = missing_row(spec)
    if row is None:
        raise InvalidInput(
            f"input {spec.name!r} is missing, and {spec.tensor.dtype} {axes_in_words(spec)} cannot be left out"
        )
    return np.array([row] * rows, dtype=spec.tensor.dtype.numpy).reshape(rows, *np.shape(row))


# Lines of text


def _cell(text: str, spec: InputSpec) -> Any:
    """One value of a line, in as many brackets as the input's rows have axes."""
    value = parse_text(text, spec)
    for _ in spec.tensor.shape[1:]:
        value = value if value is None and not spec.required else [value]
    return value


def parse_text(text: str, spec: InputSpec) -> Any:
    """The value that a text stands for; a text that is no number stays one, and is refused later."""
    text = text if spec.tensor.dtype is DType.BYTES else text.strip()
    if not text:
        return None
    if spec.tensor.dtype is DType.BYTES:
        return text
    if spec.tensor.dtype is DType.BOOL and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        return float(text) if text.isascii() and "_" not in text else text
    except ValueError:
        return text
