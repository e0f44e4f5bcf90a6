"""What every door of the Open Inference Protocol checks of a request before it is queued.

Names, types and shapes of its inputs, the parameters that mean something here, and what it may not
ask for. Knows neither JSON nor protobuf: a door hands over what it has read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardpass.engine.column import short
from forwardpass.errors import InvalidInput, nearest
from forwardpass.server.tensors import show_shape
from forwardpass.types import Columns, DType, InputSpec


@dataclass(frozen=True, slots=True)
class Input:
    """What of an input is looked at for every request."""

    spec: InputSpec
    dtype: str
    numpy: np.dtype[Any]
    row: list[int] | None  # the shape of one row, where it has no free axis


def known_input(spec: InputSpec) -> Input:
    axes = spec.tensor.shape
    row = [axis for axis in axes[1:] if axis is not None]
    fixed = len(axes) > 0 and len(row) == len(axes) - 1 and axes[0] is None
    return Input(spec, str(spec.tensor.dtype), spec.tensor.dtype.numpy, row if fixed else None)


def unknown_input(name: str, known: Iterable[str]) -> InvalidInput:
    return InvalidInput(f"unknown input {name!r}.{nearest(name, known)}")


def check_shape(known: Input, datatype: str, given: list[int]) -> list[int]:
    """The shape as given. Raises ``InvalidInput`` where it, or the type, is not the input's."""
    if datatype != known.dtype:
        raise InvalidInput(f"input {known.spec.name!r} is {known.dtype}, got datatype {short(datatype)}")
    if known.row is not None and given and given[1:] == known.row and given[0] >= 0:
        return given
    wanted = known.spec.tensor.shape
    if len(given) == len(wanted):
        axes = zip(given, wanted, strict=True)
        if all(size >= 0 and (axis is None or size == axis) for size, axis in axes):
            return given
    raise InvalidInput(f"input {known.spec.name!r} has shape {show_shape(wanted)}, got {given}")


def complete(inputs: Mapping[str, Input], columns: Columns, names: Sequence[str]) -> None:
    """Fill in what may be left out; refuse what is missing, or is given twice in ``names``."""
    if len(columns) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"input {twice!r} is given twice")
    missing = [known.spec for name, known in inputs.items() if name not in columns]
    needed = [spec.name for spec in missing if spec.required]
    if needed or not columns:
        raise InvalidInput(f"missing input {needed[0] if needed else next(iter(inputs))!r}")
    rows = len(next(iter(columns.values())))
    for spec in missing:
        empty = "" if spec.tensor.dtype is DType.BYTES else math.nan
        columns[spec.name] = np.full(rows, empty, spec.tensor.dtype.numpy)


def row_count(columns: Columns) -> int:
    """Rows of a batched model's columns. Raises ``InvalidInput`` where they differ."""
    first = next(iter(columns))
    rows = len(columns[first])
    if len(columns) > 1:
        for name, array in columns.items():
            if len(array) != rows:
                raise InvalidInput(f"input {name!r} has {len(array)} rows but {first!r} has {rows}")
    return rows


def timeout_asked(parameters: Mapping[str, Any], limit: float) -> float:
    """Seconds in which a request must be answered: ``limit``, unless its `timeout` says less.

    Raises ``InvalidInput`` for a `timeout` that is none, and for sequences.
    """
    if "sequence_id" in parameters:
        raise InvalidInput("sequences (`sequence_id`) are not offered: every request stands for itself")
    timeout = parameters.get("timeout")
    if timeout is None:
        return limit
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0:
        raise InvalidInput(f"parameter `timeout` must be microseconds above 0, got {short(timeout)}")
    return timeout / 1e6 if timeout < limit * 1e6 else limit


def check_output(name: str, outputs: Sequence[str], parameters: Iterable[str]) -> None:
    """Raises ``InvalidInput`` where a request asks for an output that there is not, or as it is not offered."""
    if name not in outputs:
        raise InvalidInput(f"unknown output {name!r}.{nearest(name, outputs)}")
    for asked in ("classification", "shared_memory_region"):
        if asked in parameters:
            raise InvalidInput(f"output {name!r}: `{asked}` is not offered; ask for the plain output")
