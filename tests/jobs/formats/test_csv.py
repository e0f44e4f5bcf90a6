"""CSV: headers, types, quotes and rows that are wrong."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.jobs.formats.test_lines import blocks_of
from tests.jobs.formats.whole import STORAGE, chunks_of, entry, pieces_of, rows_of, values

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats import BadRow, create_format

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.text('ab",;\n\r é\t', max_size=4)
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=0, max_size=12)
)


def file_of(tmp_path: Path, content: bytes, name: str = "x.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def schema_of(path: Path) -> pa.Schema:
    return create_format([str(path)]).schema(STORAGE, [entry(path)])


def read(tmp_path: Path, content: bytes, name: str = "x.csv") -> list[Any]:
    return rows_of(file_of(tmp_path, content, name))


@FEW
@given(
    TABLES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans(), st.integers(1, 5), st.integers(1, 50)
)
def test_whatever_python_writes(
    tmp_path: Path, table: list[list[str]], end: str, bom: bool, spaced: bool, cut: int, block: int
) -> None:
    """Quoted everywhere, so that an empty text is one; with empty lines between rows, or not."""
    width = len(table[0]) if table else 2
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end * 2 if spaced else end)
    writer.writerows([[f"c{number}" for number in range(width)], *table])
    path = file_of(tmp_path, (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())
    with blocks_of(block):
        assert rows_of(path, cut, rows=3) == [tuple(row) for row in table]


@FEW
@given(st.text('a1",\n\r ', max_size=60), st.integers(1, 4), st.integers(1, 20))
def test_any_text_is_read_as_python_reads_it(tmp_path: Path, text: str, cut: int, block: int) -> None:
    """Quotes where they do not belong, too few values and too many; however it is cut."""
    path = file_of(tmp_path, b"x,y\n" + text.encode())
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    with blocks_of(block):
        found = rows_of(path, cut, rows=2)
    assert found == rows_of(path)
    told = [tuple(value or "" for value in row) if isinstance(row, tuple) else None for row in found]
    assert told == [tuple(row) if len(row) == 2 else None for row in expected]


def test_empty_is_missing_and_quoted_empty_is_text(tmp_path: Path) -> None:
    assert read(tmp_path, b'a,b\n,""\n"",\nNA,null\n') == [(None, ""), ("", None), ("NA", "null")]


@pytest.mark.parametrize(
    ("name", "header", "names"),
    [
        ("x.csv", b"a,b\n", ["a", "b"]),
        ("x.csv", b"a;b\n1,5;2\n", ["a", "b"]),
        ("x.csv", b"a\tb\n", ["a", "b"]),
        ("x.csv", b"a|b|c,d\n", ["a", "b", "c,d"]),
        ("x.csv", b'"a;b;c",d\n', ["a;b;c", "d"]),
        ("x.csv", b"alone\n", ["alone"]),
        ("x.csv", b'\r\n\n"a\nb","c""d"\r\n1,2', ["a\nb", 'c"d']),
        ("x.tsv", b"a,b,c\td\n", ["a,b,c", "d"]),
        ("x.csv", b"\xef\xbb\xbfa,b", ["a", "b"]),
        ("x.csv", "größe,b\r".encode(), ["größe", "b"]),
    ],
)
def test_header(tmp_path: Path, name: str, header: bytes, names: list[str]) -> None:
    assert schema_of(file_of(tmp_path, header, name)).names == names


def test_a_header_longer_than_a_first_look(tmp_path: Path) -> None:
    names = [f"column_{number:06}" for number in range(10_000)]
    path = file_of(tmp_path, ",".join(names).encode() + b"\n" + b"1," * 9_999 + b"1\n")
    assert schema_of(path).names == names
    assert rows_of(path) == [("1",) * 10_000]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "x.csv: is empty; its first line must name the columns"),
        (b"\n\r\n", "x.csv: is empty"),
        (b"a,b,a\n1,2,3\n", "x.csv: its header names 'a' 2 times"),
        (b"a,\xff\n1,2\n", "x.csv: its first line does not name the columns"),
    ],
)
def test_header_that_cannot_be_used(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        schema_of(file_of(tmp_path, content))


def test_types_are_told_and_values_stay_text(tmp_path: Path) -> None:
    content = b"n,f,b,t,d,none,mixed,m\n1,1.5,true,x,2024-01-01 02:03:04,,1,\n-2,2,false,y,2024-01-02 02:03:04,,z,7\n"
    path = file_of(tmp_path, content)
    kinds = {item.name: str(item.type) for item in schema_of(path)}
    assert kinds == {
        "n": "int64", "f": "double", "b": "bool", "t": "string", "d": "timestamp[s]", "none": "string",
        "mixed": "string", "m": "int64",
    }  # fmt: skip
    assert rows_of(path)[0] == ("1", "1.5", "true", "x", "2024-01-01 02:03:04", None, "1", None)


def test_types_are_told_around_bad_rows(tmp_path: Path) -> None:
    kinds = [str(kind) for kind in schema_of(file_of(tmp_path, b"a,b\n1,2\n3\n4,\xff\n")).types]
    assert kinds == ["int64", "string"]


def test_rows_that_are_wrong_do_not_shift_the_others(tmp_path: Path) -> None:
    rows = read(tmp_path, b'a,b\n1,2\n3\n\n4,5,6\n"7\n",8\n\xe9,9\n10,11')
    assert rows == [
        ("1", "2"),
        BadRow("1 values where the header names 2 columns", "3"),
        BadRow("3 values where the header names 2 columns", "4,5,6"),
        ("7\n", "8"),
        BadRow("not UTF-8 text (invalid continuation byte at byte 0)", "�,9"),
        ("10", "11"),
    ]


def test_a_quote_that_is_not_closed_takes_what_follows(tmp_path: Path) -> None:
    first, rest = read(tmp_path, b'a,b\n1,2\n"3,4\n5,6\n')
    assert first == ("1", "2")
    assert rest == BadRow("1 values where the header names 2 columns", '"3,4\n5,6')


@pytest.mark.parametrize(("last", "row"), [(b'"3",', ("3", None)), (b'""x,', ("x", None)), (b'3,"4,', ("3", "4,"))])
def test_the_last_row_needs_no_line_end(tmp_path: Path, last: bytes, row: tuple[str | None, ...]) -> None:
    assert read(tmp_path, b"a,b\n1,2\n" + last) == [("1", "2"), row]


def test_what_stands_in_a_bad_row_is_shortened(tmp_path: Path) -> None:
    (bad,) = read(tmp_path, b"a,b\n" + b"x" * 5000)
    assert len(bad.text) == 200


def test_a_row_that_is_not_utf8_is_bad_whichever_columns_are_asked_for(tmp_path: Path) -> None:
    path = file_of(tmp_path, "größe,b\nä,1\nx\ny,2\n\n".encode() + b"\xe9,3\nz,4")
    (piece,) = pieces_of(path, 100)
    (chunk,) = chunks_of(path, piece, 100, ["b"])
    assert (chunk.numbers, sorted(chunk.bad), values(chunk.columns["b"])) == ([0, 2, 4], [1, 3], ["1", "2", "4"])


def test_a_file_that_is_not_utf8_at_all(tmp_path: Path) -> None:
    rows = rows_of(file_of(tmp_path, b"a,b\n" + b"\xe9,1\n" * 5000))
    assert [isinstance(row, BadRow) for row in rows] == [True] * 5000


def test_columns_in_another_order_in_each_file(tmp_path: Path) -> None:
    paths = [file_of(tmp_path, b"a,b\n1,2\n", "1.csv"), file_of(tmp_path, b"b;a\n2;1\n", "2.csv")]
    form = create_format([str(path) for path in paths])
    schema = form.schema(STORAGE, [entry(path) for path in paths])
    for path in paths:
        (chunk,) = form.read(STORAGE, pieces_of(path, 10)[0], schema, ["a", "b"], 10)
        assert {name: values(column) for name, column in chunk.columns.items()} == {"a": ["1"], "b": ["2"]}


@pytest.mark.parametrize(
    ("second", "says"),
    [(b"a\n", "1.csv has a column 'b', .*2.csv has not"), (b"a,b,c\n", "2.csv has a column 'c', .*1.csv has not")],
)
def test_files_with_other_columns(tmp_path: Path, second: bytes, says: str) -> None:
    paths = [file_of(tmp_path, b"a,b\n1,2\n", "1.csv"), file_of(tmp_path, second, "2.csv")]
    with pytest.raises(InvalidInput, match=says):
        create_format(["x.csv"]).schema(STORAGE, [entry(path) for path in paths])
