"""Columns of every type survive a file, without pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forwardpass.optimize.columnfile import read_columns, write_columns
from forwardpass.types import Array, DType

COLUMNS: list[Array] = [
    np.array([[1.5, -2], [np.nan, np.inf]], np.float32),
    np.array([1, -(2**63)]),
    np.array([True, False]),
    np.array([1.5, -2], np.float16),
    np.array([1.5, -2], DType.BF16.numpy),
    np.array(["", "naïve 🐟\0x", "\ud800"], object),
    np.array([[b"", b"\xff\0"], [b"a", b"bc"]], object),
    np.zeros((0, 3), np.float32),
    np.array([], object),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: f"{column.dtype}{list(column.shape)}")
def test_every_type_comes_back_unchanged(tmp_path: Path, column: Array) -> None:
    write_columns(tmp_path / "c.npz", {"a: b/c": column, "other": np.arange(2)})
    found = read_columns(tmp_path / "c.npz")
    assert list(found) == ["a: b/c", "other"]
    assert found["a: b/c"].dtype == column.dtype
    assert found["a: b/c"].shape == column.shape
    assert repr(found["a: b/c"].tolist()) == repr(column.tolist())
