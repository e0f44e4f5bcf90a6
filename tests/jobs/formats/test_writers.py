"""What is written is read back the same, and is the same bytes every time."""

from __future__ import annotations

import base64
import datetime
import gc
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.jobs.formats.whole import rows_of, write

from forwardpass.jobs.formats import create_writer

SUFFIXES = ["parquet", "arrow", "csv", "jsonl"]
AT = datetime.datetime(2026, 11, 22, 1, 2, 3, 456, tzinfo=datetime.UTC)
MANY = pa.table(
    {
        "whole": pa.array([1, None, -3], pa.int32()),
        "half": pa.array([0.1, math.nan, None], pa.float32()),
        "double": [0.1, math.inf, None],
        "truth": [True, False, None],
        "text": ['a,"b"\n', "", None],
        "bytes": [b"\xff\0", b"", None],
        "list": pa.array([[0.1, 2.5], [], None], pa.list_(pa.float32())),
        "fixed": pa.array([[0.1, 0.2], None, [3, 4]], pa.list_(pa.float32(), 2)),
        "struct": [{"x": 1, "y": "é"}, {"x": None, "y": "z"}, None],
        "time": pa.array([AT, None, AT], pa.timestamp("ns", "UTC")),
    }
)


def rows_of_table(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*table.to_pydict().values(), strict=True))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_rows_same_bytes(tmp_path: Path, suffix: str) -> None:
    digests = {hashlib.sha256(write(tmp_path / f"{turn}.{suffix}", MANY).read_bytes()).hexdigest() for turn in range(3)}
    assert len(digests) == 1


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_lines_do_not_depend_on_batches(tmp_path: Path, suffix: str) -> None:
    contents = {write(tmp_path / f"{rows}.{suffix}", MANY, rows).read_bytes() for rows in (1, 2, 3)}
    assert len(contents) == 1


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_all_types_come_back(tmp_path: Path, suffix: str) -> None:
    table = MANY.drop_columns(["half", "time"])  # NaN is not equal to itself; no nanoseconds in Python's own times
    assert rows_of(write(tmp_path / f"x.{suffix}", table)) == rows_of_table(table)
    path = write(tmp_path / f"all.{suffix}", MANY)
    whole = pq.read_table(path) if suffix == "parquet" else pa.ipc.open_file(str(path)).read_all()
    assert whole.schema == MANY.schema
    assert whole["time"] == MANY["time"]


def test_json_lines(tmp_path: Path) -> None:
    lines = write(tmp_path / "x.jsonl", MANY).read_text("utf-8").splitlines()
    first, second, third = map(json.loads, lines)
    assert first == {
        "whole": 1, "half": 0.1, "double": 0.1, "truth": True, "text": 'a,"b"\n', "bytes": {"b64": "/wA="},
        "list": [0.1, 2.5], "fixed": [0.1, 0.2], "struct": {"x": 1, "y": "é"},
        "time": "2026-11-22T01:02:03.000456+00:00",
    }  # fmt: skip
    assert (second["half"], second["double"], second["list"], second["fixed"]) == (None, None, [], None)
    assert list(third.values()) == [-3, None, None, None, None, None, None, [3.0, 4.0], None, first["time"]]


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", MANY)
    assert path.read_text("utf-8").startswith(
        "whole,half,double,truth,text,bytes,list,fixed,struct,time\n1,0.1,0.1,true,"
    )
    first, second, third = rows_of(path)
    assert first == (
        "1", "0.1", "0.1", "true", 'a,"b"\n', base64.b64encode(b"\xff\0").decode(), "[0.1,2.5]", "[0.1,0.2]",
        '{"x":1,"y":"é"}', "2026-11-22 01:02:03.000456000Z",
    )  # fmt: skip
    assert second == (None, "nan", "inf", "false", "", "", "[]", None, '{"x":null,"y":"z"}', None)
    assert third == ("-3", None, None, None, None, None, None, "[3.0,4.0]", None, "2026-11-22 01:02:03.000456000Z")


TEXTS = st.none() | st.text('a",;\n\r \té', max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, st.none() | st.integers(-9, 9)), min_size=1, max_size=9), st.sampled_from(SUFFIXES))
def test_texts_come_back(tmp_path: Path, rows: list[tuple[str | None, int | None]], suffix: str) -> None:
    texts, numbers = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({'t",\n': pa.array(texts, pa.string()), "n": pa.array(numbers, pa.int64())})
    expected = rows_of_table(table)
    if suffix == "csv":
        expected = [(text, None if n is None else str(n)) for text, n in expected]
    assert rows_of(write(tmp_path / f"x.{suffix}", table)) == expected


def test_csv_of_one_column_loses_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", pa.table({"a": pa.array(["x", None, ""])}))
    assert rows_of(path) == [("x",), ("",), ("",)]


def test_row_groups(tmp_path: Path) -> None:
    table = pa.table({"a": range(150_000), "f": pa.array(range(150_000), pa.float32())})
    path = write(tmp_path / "x.parquet", table, 7000)
    facts = pq.ParquetFile(path).metadata
    assert [facts.row_group(group).num_rows for group in range(facts.num_row_groups)] == [65536, 65536, 18928]
    whole, score = (facts.row_group(0).column(column) for column in (0, 1))
    assert (whole.compression, whole.has_dictionary_page, score.has_dictionary_page) == ("SNAPPY", True, False)


def test_row_groups_of_large_values(tmp_path: Path) -> None:
    value = b"x" * 1_000_000
    path = write(tmp_path / "x.parquet", pa.table({"a": [value] * 80}), 8)
    facts = pq.ParquetFile(path).metadata
    assert facts.num_row_groups == 2
    assert rows_of(path, rows=3) == [(value,)] * 80


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_writer_that_is_given_up_ends_quietly(tmp_path: Path, suffix: str) -> None:
    """Also where its file is closed before it: a warning would fail this test."""

    def give_up() -> None:
        with (tmp_path / "x").open("wb") as file, create_writer(suffix, file, MANY.schema) as writer:
            writer.write(MANY.to_batches()[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        give_up()
    gc.collect()
