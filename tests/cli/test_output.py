"""Tables, cells and JSON lines."""

from __future__ import annotations

import json

import numpy as np
import pytest

from forwardpass.cli.output import WIDEST, cell, say_json, table


def test_a_table_is_aligned_and_has_no_trailing_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(["a", "long"], [["wide cell", "1"], ["x", ""]]).splitlines()
    assert lines[1:] == ["wide cell  1", "x"]
    assert "a          long" in lines[0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (3, "3"),
        (True, "True"),
        ("two\n lines", "two lines"),
        ([1.0, 0.25], "[1, 0.25]"),
        (list(range(1000)), "[0, 1, 2, 3, 4, … (1000)]"),
        ({"a": 0.5}, "a: 0.5"),
        (b"abc", "3 bytes"),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_cell_is_never_wider_than_a_line() -> None:
    assert cell("x" * 1000) == "x" * (WIDEST - 1) + "…"


def test_json_holds_bytes_and_numbers_of_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"b": b"\xff", "n": float("nan"), "f": np.float32(0.5), "a": np.ones(2)})
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {"b": {"b64": "/w=="}, "n": None, "f": 0.5, "a": [1.0, 1.0]}
