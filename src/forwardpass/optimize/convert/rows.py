"""Rows of numbers to try a model on: drawn within ranges, and placed right at the thresholds of trees.

Trees disagree after a conversion where a value lies at a split: thresholds are rounded to float32. Rows at, just
below and just above thresholds find that; random ones hardly ever do. Knows no library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forwardpass.errors import InvalidInput
from forwardpass.optimize.convert.base import FEATURES
from forwardpass.types import Array, Columns

SEED = 20
_TABLE = "table"  # the name of what has no names: one matrix of numbers


@dataclass(frozen=True)
class Ranges:
    """Per feature the smallest and largest value to draw, and ``(feature, threshold)`` of the splits of trees."""

    low: Array
    high: Array
    splits: tuple[tuple[int, float], ...] = ()

    @property
    def words(self) -> str:
        if self.splits:
            return "drawn between the thresholds of the trees, and at them"
        return "drawn from the ranges that the model learnt"


def split_ranges(features: int, splits: Sequence[tuple[int, float]]) -> Ranges:
    """Ranges from the thresholds of trees: a tenth of their span wider at both ends; -1 to 1 for unused features."""
    low, high = np.full(features, -1.0), np.full(features, 1.0)
    for feature in {feature for feature, _ in splits}:
        values = [value for own, value in splits if own == feature and np.isfinite(value)]
        margin = 0.1 * (max(values) - min(values)) + 1e-3 * max(1.0, abs(max(values)))
        low[feature], high[feature] = min(values) - margin, max(values) + margin
    return Ranges(low, high, tuple(sorted(set(splits))))


def draw_rows(ranges: Ranges, rows: int) -> Columns:
    """``features``, float32 ``[rows, n]``: three of four uniform in the ranges, the rest at thresholds if there are.

    A threshold gives three rows: its value in float32, and the neighbours of that below and above.
    """
    random = np.random.default_rng(SEED)
    drawn = random.uniform(ranges.low, ranges.high, (rows, len(ranges.low))).astype(np.float32)
    if ranges.splits:
        count = min(len(ranges.splits), rows // 12)
        chosen = random.choice(len(ranges.splits), count, replace=False)
        for number, index in enumerate(chosen):
            feature, threshold = ranges.splits[index]
            value = np.float32(threshold)
            around = [value, np.nextafter(value, np.float32(-np.inf)), np.nextafter(value, np.float32(np.inf))]
            drawn[3 * number : 3 * number + 3, feature] = around
    return {FEATURES: drawn}


def round_down(thresholds: Array) -> Array:
    """Float64 thresholds as the nearest float32 values that are not above them.

    Where trees go left at ``value <= threshold``, every float32 value then goes as it went.
    """
    near = np.clip(thresholds, np.finfo(np.float32).min, np.finfo(np.float32).max).astype(np.float32)
    near = np.where(np.isinf(thresholds), thresholds, near).astype(np.float32)
    above = near.astype(np.float64) > thresholds
    return np.asarray(np.where(above, np.nextafter(near, np.float32(-np.inf)), near))


def features_from_table(table: Columns, features: int, names: Sequence[str]) -> Columns:
    """``features`` from a table: one matrix, the named columns, or all columns where there are as many as needed.

    Keeps the table's own width of number. Raises ``InvalidInput`` saying what is missing.
    """
    for name in (FEATURES, _TABLE):
        if name in table and table[name].ndim == 2:
            return {FEATURES: _numbers(name, table[name], features)}
    missing = [name for name in names if name not in table]
    chosen = list(names) if names and not missing else list(table)
    if len(chosen) != features:
        raise InvalidInput(
            f"the model takes {features} features, the data has {len(table)} columns"
            + (f" and lacks {', '.join(missing[:5])}" if missing else "")
        )
    try:
        matrix = np.stack([np.asarray(table[name], np.float64) for name in chosen], axis=1)
    except ValueError as reason:
        raise InvalidInput(f"the data holds values that are no numbers: {reason}") from None
    return {FEATURES: matrix}


def _numbers(name: str, matrix: Array, features: int) -> Array:
    if matrix.dtype.kind not in "fiub" or matrix.shape[1] != features:
        raise InvalidInput(
            f"{name!r} is {matrix.dtype} {list(matrix.shape)}, the model takes [rows, {features}] numbers"
        )
    return matrix if matrix.dtype.kind == "f" else matrix.astype(np.float64)
