"""The comparison, told about differences that are put in on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import artifacts

from forwardpass.errors import InvalidModel
from forwardpass.optimize.convert.base import Trained
from forwardpass.optimize.convert.check import compare
from forwardpass.optimize.convert.rows import Ranges, draw_rows, features_from_table, round_down, split_ranges
from forwardpass.types import Columns


class Fixed(Trained):
    """A model of one input ``x`` that answers what it is told to."""

    title = "fixed"
    native = ".txt"
    drawn = "made up"

    def __init__(self, answers: Columns) -> None:
        self.versions = {}
        self._answers = answers

    def predict(self, columns: Columns) -> Columns:
        return self._answers

    def draw(self, rows: int) -> Columns:
        return {}

    def columns(self, table: Columns) -> Columns:
        return table

    def write_onnx(self, path: Path) -> None: ...

    def write_native(self, path: Path) -> None: ...


def test_differences_are_counted_by_row_and_the_worst_come_first(folder: Path) -> None:
    path = artifacts.identity(folder / "m.onnx")
    given = np.arange(8, dtype=np.float64).reshape(4, 2)
    answers = given.copy()
    answers[1, 0] += 0.5
    answers[2, 1] += 3.0
    answers[3, 1] += 1e-5
    found = compare(Fixed({"y": answers}), path, {"x": given}, "made up")
    assert (found.rows, found.beyond, found.wrong_labels, found.equal_labels) == (4, 2, 0, None)
    assert found.largest == {"y": 3.0}
    assert [(item.row, item.original, item.converted) for item in found.worst] == [(2, 8.0, 5.0), (1, 2.5, 2.0)]
    found.require(2)
    with pytest.raises(InvalidModel, match=r"of 4 rows 2 rows differ by more than 0\.0001 \(up to 3\).*rows: 2, 1\)"):
        found.require(1)


def test_not_a_number_is_equal_to_itself_alone(folder: Path) -> None:
    given = np.array([[np.nan, np.inf], [0.0, 0.0]])
    path = artifacts.identity(folder / "m.onnx")
    assert compare(Fixed({"y": given}), path, {"x": given}, "").beyond == 0
    assert compare(Fixed({"y": np.zeros((2, 2))}), path, {"x": given}, "").beyond == 1


def test_another_shape_and_a_missing_output_are_told(folder: Path) -> None:
    path, given = artifacts.identity(folder / "m.onnx"), {"x": np.zeros((2, 2))}
    with pytest.raises(InvalidModel, match=r"shape \[2, 2\], the original's \[2\]"):
        compare(Fixed({"y": np.zeros(2)}), path, given, "")
    with pytest.raises(InvalidModel, match="no output 'z'"):
        compare(Fixed({"z": np.zeros(2)}), path, given, "")


def test_round_down_is_the_nearest_float32_that_is_not_above() -> None:
    values = np.array([0.1, 0.3, -0.1, 15.935000000000002, 1.0, 1e300, -np.inf])
    rounded = round_down(values)
    assert rounded.dtype == np.float32
    assert (rounded.astype(np.float64) <= values).all()
    with np.errstate(over="ignore"):
        above = np.nextafter(rounded, np.float32(np.inf)).astype(np.float64)
    assert (above[:5] > values[:5]).all()


def test_drawn_rows_lie_in_the_ranges_and_around_the_splits() -> None:
    rows = draw_rows(Ranges(np.array([0.0, 5.0]), np.array([1.0, 6.0])), 1000)["features"]
    assert rows.shape == (1000, 2)
    assert (rows.min(axis=0) >= [0, 5]).all()
    assert (rows.max(axis=0) <= [1, 6]).all()
    rows = draw_rows(split_ranges(2, [(1, 0.1)]), 100)["features"]
    near = np.float32(0.1)
    around = {float(near), float(np.nextafter(near, np.float32(0))), float(np.nextafter(near, np.float32(1)))}
    assert around <= set(rows[:, 1].tolist())


def test_columns_are_taken_by_name_in_the_order_of_the_model() -> None:
    table = {"b": np.array([1.0]), "target": np.array([9.0]), "a": np.array([2.0])}
    assert features_from_table(table, 2, ["a", "b"])["features"].tolist() == [[2.0, 1.0]]
