"""JSON Lines: rows that are no objects, keys that are missing, types that differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.jobs.formats.test_lines import blocks_of
from tests.jobs.formats.whole import STORAGE, entry, rows_of

from forwardpass.jobs.formats import BadRow, create_format

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHOLE = st.integers(-(2**53), 2**53)
VALUES = st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES | st.lists(WHOLE, max_size=3))


def file_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    return path


@FEW
@given(st.lists(OBJECTS, max_size=10), st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans(), st.integers(1, 40))
def test_whatever_python_writes(
    tmp_path: Path, objects: list[dict[str, Any]], end: str, last: bool, block: int
) -> None:
    text = end.join(json.dumps(row) for row in objects) + (end if last else "")
    path = file_of(tmp_path, text.encode())
    names = dict.fromkeys(name for row in objects for name in row)
    with blocks_of(block):
        found = rows_of(path, 3, rows=2) if names else []
    if names:
        assert found == [tuple(row.get(name) for name in names) for row in objects]


def test_lines_that_are_no_rows(tmp_path: Path) -> None:
    rows = rows_of(file_of(tmp_path, b'\xef\xbb\xbf{"a": 1}\n\n{"a": \n[1]\nNaN\n{"a": "\xff"}\n{"b": 2}\n7'))
    assert [row if isinstance(row, tuple) else None for row in rows] == [
        (1, None), None, None, None, None, (None, 2), None
    ]  # fmt: skip
    reasons = {row.text: row.reason for row in rows if isinstance(row, BadRow)}
    assert "not valid JSON: unexpected end of data" in reasons['{"a": ']
    assert reasons["[1]"] == reasons["7"] == "not a JSON object: a row is written {column: value, …}"
    assert "not valid JSON" in reasons["NaN"]
    assert "not valid JSON" in reasons['{"a": "�"}']


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "int64"),
        (["1", "2.5", "null"], "double"),
        (["true"], "bool"),
        (['"x"'], "string"),
        (["null"], "string"),
        (["1", '"x"'], "string"),
        (["1", "[1]"], "string"),
        (["123456789012345678901234567890"], "double"),
        (["18446744073709551615"], "string"),
        (["-1", "18446744073709551615"], "string"),
        (["[1, 2]", "[]"], "list<item: int64>"),
        (['{"x": 1}'], "struct<x: int64>"),
    ],
)
def test_types_are_told_from_values(tmp_path: Path, values: list[str], kind: str) -> None:
    path = file_of(tmp_path, "".join(f'{{"a": {value}}}\n' for value in values).encode())
    schema = create_format([str(path)]).schema(STORAGE, [entry(path)])
    assert {item.name: str(item.type) for item in schema} == {"a": kind}


def test_types_are_told_from_the_first_thousand_good_rows_of_all_files(tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    first.write_bytes(b"junk\n" + b'{"a": 1}\n' * 999)
    second.write_bytes(b'{"b": 1}\n{"c": 1}\n')
    schema = create_format(["x.jsonl"]).schema(STORAGE, [entry(first), entry(second)])
    assert schema.names == ["a", "b"]
