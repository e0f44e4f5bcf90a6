"""Parquet and Arrow: how groups are cut, read once, and held in little memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.jobs.formats.whole import STORAGE, entry, pieces_of, rows_of

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats import create_format
from forwardpass.jobs.formats.groups import cut, regroup
from forwardpass.jobs.storage.local import LocalStorage

FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class CountingStorage(LocalStorage):
    """Counts the bytes that are read from its files."""

    def __init__(self) -> None:
        self.bytes = 0

    def open(self, name: str) -> BinaryIO:
        storage = self

        class Counted(io.FileIO):
            def read(self, size: int | None = -1, /) -> Any:
                data = super().read(-1 if size is None else size)
                storage.bytes += len(data or b"")
                return data

        return Counted(name)


@given(st.lists(st.integers(0, 30)), st.integers(1, 20))
@settings(deadline=None)
def test_cuts(groups: list[int], rows: int) -> None:
    pieces = cut("f", groups, rows)
    assert [row for piece in pieces for row in range(piece.start, piece.stop)] == list(range(sum(groups)))
    assert all(0 < piece.rows <= rows for piece in pieces)
    assert len(pieces) <= 2 * sum(groups) / rows + len([group for group in groups if group > rows]) + 1


def test_whole_groups_stay_whole() -> None:
    assert [(piece.start, piece.stop) for piece in cut("f", [4, 4, 4, 20, 4], 10)] == [
        (0, 8), (8, 12), (12, 22), (22, 32), (32, 36)
    ]  # fmt: skip


@given(st.lists(st.integers(0, 20)), st.integers(1, 15))
@settings(deadline=None)
def test_regrouped(sizes: list[int], rows: int) -> None:
    counter = iter(range(sum(sizes)))
    batches = [pa.record_batch([pa.array([next(counter) for _ in range(size)], pa.int64())], ["a"]) for size in sizes]
    found = list(regroup(iter(batches), rows))
    assert [value for batch in found for value in batch.column(0).to_pylist()] == list(range(sum(sizes)))
    assert [batch.num_rows for batch in found[:-1]] == [rows] * (len(found) - 1)


@FEW
@given(
    st.lists(st.tuples(st.integers(-9, 9) | st.none(), st.text(max_size=3)), min_size=1, max_size=40),
    st.integers(1, 50),
    st.integers(1, 9),
    st.sampled_from(["parquet", "arrow", "stream"]),
)
def test_any_groups_are_read_as_arrow_reads_them(
    tmp_path: Path, rows: list[tuple[int | None, str]], group: int, cut_rows: int, kind: str
) -> None:
    table = pa.table({"n": pa.array([n for n, _ in rows], pa.int32()), "t": [t for _, t in rows]})
    path = tmp_path / ("x.parquet" if kind == "parquet" else "x.arrow")
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=group)
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(str(path), table.schema) as sink:
            sink.write_table(table, group)
    assert rows_of(path, cut_rows, rows=3) == rows


def big(path: Path, rows: int) -> Path:
    """One row group of incompressible numbers."""
    rng = np.random.default_rng(1)
    table = pa.table({name: rng.random(rows) for name in "abcd"})
    pq.write_table(table, path, row_group_size=rows, use_dictionary=False, data_page_size=64 * 1024)
    return path


def read_all(storage: LocalStorage, path: Path, cut_rows: int, rows: int) -> Iterator[int]:
    form = create_format([str(path)])
    schema = form.schema(storage, [entry(path)])
    for piece in form.scan(storage, entry(path), cut_rows):
        for chunk in form.read(storage, piece, schema, ["a", "c"], rows):
            yield len(chunk.numbers)


def test_a_group_of_many_pieces_is_read_once(tmp_path: Path) -> None:
    path = big(tmp_path / "x.parquet", 200_000)
    storage = CountingStorage()
    assert sum(read_all(storage, path, 10_000, 1000)) == 200_000
    assert storage.bytes < 0.6 * path.stat().st_size  # two of four columns, once


def test_a_large_group_takes_little_memory(tmp_path: Path) -> None:
    """What is held at most while reading, by Arrow and by Python, does not grow with the file."""
    peaks = {}
    for rows in (100_000, 500_000):
        path = big(tmp_path / f"{rows}.parquet", rows)
        pool, arrow = pa.default_memory_pool(), 0
        before = pool.bytes_allocated()
        tracemalloc.start()
        for _ in read_all(STORAGE, path, rows, 1000):
            arrow = max(arrow, pool.bytes_allocated() - before)
        peaks[rows] = arrow + tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert 0 < peaks[500_000] < peaks[100_000] + 1_000_000


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"a": [1]}, "2.parquet has no column 'b', which .*1.parquet has"),
        ({"a": [1], "b": [1]}, "2.parquet: column 'b' is int64, but string in .*1.parquet"),
        ({"a": [1], "b": ["x"], "c": [1]}, "1.parquet has no column 'c', which .*2.parquet has"),
    ],
)
def test_files_with_other_columns(tmp_path: Path, second: dict[str, list[Any]], says: str) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table(second), tmp_path / "2.parquet")
    with pytest.raises(InvalidInput, match=says):
        create_format(["x.parquet"]).schema(STORAGE, STORAGE.list(str(tmp_path)))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_file_that_tells_no_columns_is_a_piece_that_cannot_be_read(tmp_path: Path, suffix: str) -> None:
    entries = [entry(whole(tmp_path / f"{name}.{suffix}")) for name in "abc"]
    path = Path(entries[0].name)
    path.write_bytes(path.read_bytes()[:20])
    form = create_format([path.name])
    schema = form.schema(STORAGE, entries)
    assert schema.names == ["a"]
    assert [piece.rows for piece in form.scan_all(STORAGE, entries, 10)] == [0, 3, 3]
    (piece,) = form.scan(STORAGE, entries[0], 10)
    with pytest.raises(InvalidInput, match=f"{path}: cannot be read as {suffix}"):
        list(form.read(STORAGE, piece, schema, ["a"], 10))
    whole(path)
    with pytest.raises(InvalidInput, match=f"{path}: could not be read when the job was planned, and can be now"):
        list(form.read(STORAGE, piece, schema, ["a"], 10))
    path.write_bytes(b"")
    with pytest.raises(InvalidInput, match=f"{path}: cannot be read"):
        create_format([path.name]).schema(STORAGE, entries[:1])


def whole(path: Path) -> Path:
    table = pa.table({"a": [1, 2, 3]})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


def test_columns_in_another_order_in_each_file(tmp_path: Path) -> None:
    table = pa.table({"a": [1], "b": ["x"]})
    paths = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    pq.write_table(table, paths[0])
    pq.write_table(table.select(["b", "a"]), paths[1])
    form = create_format(["x.parquet"])
    schema = form.schema(STORAGE, [entry(path) for path in paths])
    for path in paths:
        (chunk,) = form.read(STORAGE, pieces_of(path, 10)[0], schema, ["b", "a"], 10)
        assert {name: list(column) for name, column in chunk.columns.items()} == {
            "b": [pa.scalar("x")],
            "a": [pa.scalar(1)],
        }


def test_values_kept_once_are_told_as_themselves(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    table = pa.table({"c": pa.array(["x", "y", "x", None]).dictionary_encode()})
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table)
    assert create_format([str(path)]).schema(STORAGE, [entry(path)]) == pa.schema([("c", pa.string())])
    assert rows_of(path) == [("x",), ("y",), ("x",), (None,)]
