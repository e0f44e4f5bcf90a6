"""How long the rows of ragged inputs are: characters of a text, elements of a tensor with free axes.

Rows that run together are padded to the longest, by a step or by whoever sent them; what a row costs
depends on that. Knows columns, and neither models nor costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forwardpass.types import Array, Columns, InputType, Signature


def ragged_inputs(signature: Signature) -> tuple[str, ...]:
    """Inputs whose rows may be of unlike length: texts, and tensors with free axes besides the rows."""
    if not signature.batched:
        return ()
    return tuple(
        spec.name
        for spec in signature.inputs
        if spec.type is InputType.TEXT or (spec.type is InputType.TENSOR and None in spec.tensor.shape[1:])
    )


def longest_row(columns: Columns, names: Sequence[str]) -> int:
    """Length of the longest row, summed over the named columns."""
    return sum(_longest(columns[name]) for name in names)


def row_lengths(columns: Columns, names: Sequence[str]) -> NDArray[np.int64]:
    """Length of each row, summed over the named columns. Shape: [rows]."""
    lengths: NDArray[np.int64] = np.sum([_lengths(columns[name]) for name in names], axis=0)
    return lengths


def _longest(column: Array) -> int:
    if column.dtype.kind != "O":
        return column[0].size if len(column) else 0
    if column.ndim > 1:
        return max(_lengths(column).tolist(), default=0)
    return max(map(len, column.tolist()), default=0)


def _lengths(column: Array) -> NDArray[np.int64]:
    if column.dtype.kind != "O":
        return np.full(len(column), column[0].size if len(column) else 0, np.int64)
    return np.array([sum(map(len, np.ravel(row).tolist())) for row in column], np.int64)
