"""What every format promises: any cut gives all rows, once, in order, however and by whomever it is read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.formats.whole import STORAGE, chunks_of, entry, ordered, pieces_of, rows_of, write

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.jobs.formats import BadRow, Piece, create_format
from forwardpass.jobs.formats.images import Images
from forwardpass.jobs.storage import Entry

ROWS = 100
TABLE = pa.table(
    {
        "name": [None if row % 7 == 3 else f'n"{row},\n\r\né' for row in range(ROWS)],
        "text": [f"t{row}" for row in range(ROWS)],
    }
)
EXPECTED = list(zip(*TABLE.to_pydict().values(), strict=True))
LINES = [(f"a line of 100, the {row}th é",) for row in range(ROWS)]


def parquet_of_one_group(path: Path) -> None:
    pq.write_table(TABLE, path, row_group_size=1000)


def parquet_of_small_groups(path: Path) -> None:
    pq.write_table(TABLE, path, row_group_size=7)


def parquet_of_categories(path: Path) -> None:
    pq.write_table(pa.table([TABLE["name"].dictionary_encode(), TABLE["text"]], TABLE.column_names), path)


def arrow_stream(path: Path) -> None:
    with pa.ipc.new_stream(str(path), TABLE.schema) as stream:
        stream.write_table(TABLE, 11)


def ours(batch_rows: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(path, TABLE, batch_rows)

    return make


def compressed(inner: str, compress: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        plain = path.with_name(inner)
        (text_lines if inner.endswith("txt") else ours(10))(plain)
        path.write_bytes(compress(plain.read_bytes()))

    return make


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def text_lines(path: Path) -> None:
    path.write_text("".join(f"{line}\n" for (line,) in LINES), encoding="utf-8")


FILES: dict[str, tuple[Callable[[Path], None], list[tuple[Any, ...]]]] = {
    "one_group.parquet": (parquet_of_one_group, EXPECTED),
    "small_groups.parquet": (parquet_of_small_groups, EXPECTED),
    "categories.pq": (parquet_of_categories, EXPECTED),
    "ours.parquet": (ours(9), EXPECTED),
    "ours.arrow": (ours(9), EXPECTED),
    "stream.ipc": (arrow_stream, EXPECTED),
    "ours.csv": (ours(9), EXPECTED),
    "packed.csv.gz": (compressed("inner.csv", gzip.compress), EXPECTED),
    "packed.csv.zst": (compressed("inner.csv", zstd), EXPECTED),
    "ours.jsonl": (ours(9), EXPECTED),
    "packed.ndjson.gz": (compressed("inner.jsonl", gzip.compress), EXPECTED),
    "lines.txt": (text_lines, LINES),
    "packed.txt.gz": (compressed("inner.txt", gzip.compress), LINES),
}
BINARY = [name for name in FILES if not name.endswith((".csv", ".jsonl", ".txt"))]
CUTTABLE = [name for name in FILES if not name.startswith("packed")]


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    FILES[path.name][0](path)
    return path


def expected(path: Path) -> list[tuple[Any, ...]]:
    return FILES[path.name][1]


@pytest.mark.parametrize("cut", [1, 3, 10, 64, 1 << 40])
def test_any_cut_gives_all_rows_in_order(file: Path, cut: int) -> None:
    assert rows_of(file, cut, rows=8) == expected(file)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_chunks_hold_no_more_rows_than_asked(file: Path, rows: int) -> None:
    for piece in pieces_of(file, 30):
        chunks = chunks_of(file, piece, rows)
        assert max(len(chunk.numbers) for chunk in chunks) <= rows
        assert sum(len(chunk.numbers) for chunk in chunks) == piece.rows


@pytest.mark.parametrize("name", CUTTABLE)
def test_pieces_are_about_as_large_as_asked(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FILES[name][0](path)
    for cut in (5, 33, 99):
        sizes = [piece.rows for piece in pieces_of(path, cut)]
        assert sum(sizes) == ROWS
        assert max(sizes) <= 1.5 * cut
        assert len(sizes) <= 2 * ROWS / cut + 1


def test_one_reader_reads_as_fresh_ones_do_in_any_order(file: Path) -> None:
    form = create_format([str(file)])
    schema = form.schema(STORAGE, [entry(file)])
    pieces = form.scan(STORAGE, entry(file), 13)
    for order in (pieces, pieces[::-1], pieces[::2] + pieces[1::2]):
        for piece in order:
            assert list(form.read(STORAGE, piece, schema, schema.names, 5)) == chunks_of(file, piece, 5)


def test_readers_left_half_way_disturb_nobody(file: Path) -> None:
    form = create_format([str(file)])
    schema = form.schema(STORAGE, [entry(file)])
    piece = form.scan(STORAGE, entry(file), ROWS)[0]
    first, second = (form.read(STORAGE, piece, schema, schema.names, 4) for _ in range(2))
    next(first), next(second), next(second)
    rest = [row for chunk in first for row in ordered(chunk, chunk.numbers[0])]
    assert rest == expected(file)[4:]
    second.close()  # type: ignore[attr-defined]
    assert list(form.read(STORAGE, piece, schema, schema.names, 4)) == chunks_of(file, piece, 4)


def test_only_the_columns_asked_for(file: Path) -> None:
    piece = pieces_of(file, ROWS)[0]
    name = "text"
    (chunk,) = chunks_of(file, piece, ROWS, [name])
    assert list(chunk.columns) == [name]
    assert ordered(chunk, 0) == [row[-1:] for row in expected(file)]
    (empty,) = chunks_of(file, piece, ROWS, [])
    assert (empty.columns, empty.numbers) == ({}, list(range(ROWS)))


def test_a_piece_travels(file: Path) -> None:
    for piece in pieces_of(file, 20):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(piece), type=Piece) == piece


def test_a_file_with_other_rows_than_planned_is_refused(file: Path) -> None:
    piece = pieces_of(file, 1 << 40)[0]
    longer = msgspec.structs.replace(piece, stop=piece.stop + 1)
    with pytest.raises(InvalidInput, match=rf"{file.name}: 100 rows where 101 were planned"):
        chunks_of(file, longer, 10)


@pytest.mark.parametrize(
    ("name", "junk"),
    [
        (name, junk)
        for name in BINARY
        for junk in (b"", b"junk that is no such file", b"PAR1ARROW1\0\0")
        if junk or not name.startswith("packed")  # to nothing, nothing decompresses
    ],
)
def test_junk_is_refused_by_name(tmp_path: Path, name: str, junk: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(junk)
    with pytest.raises(InvalidInput, match=name):
        pieces_of(path, 10)


@pytest.mark.parametrize("name", BINARY)
def test_a_file_cut_off_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FILES[name][0](path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidInput, match=name):
        rows_of(path)


def test_a_file_that_is_gone(file: Path) -> None:
    piece = pieces_of(file, 10)[0]
    form = create_format([str(file)])
    schema = form.schema(STORAGE, [entry(file)])
    file.unlink()
    with pytest.raises(NotFound):
        list(form.read(STORAGE, piece, schema, schema.names, 10))


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl"])
def test_no_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"empty.{suffix}", TABLE.slice(0, 0))
    assert pieces_of(path, 10) == []
    assert create_format([str(path)]).schema(STORAGE, [entry(path)]).names == (
        [] if suffix == "jsonl" else TABLE.column_names
    )


def images(folder: Path, count: int) -> list[Entry]:
    for number in range(count):
        (folder / f"{number:03}.png").write_bytes(zlib.compress(bytes([number])))
    return STORAGE.list(str(folder))


@pytest.mark.parametrize(("count", "cut"), [(10, 3), (10, 10), (10, 99), (1, 1)])
def test_images_are_a_row_each(tmp_path: Path, count: int, cut: int) -> None:
    entries = images(tmp_path, count)
    form = Images()
    pieces = form.scan_all(STORAGE, entries, cut)
    assert max(piece.rows for piece in pieces) <= cut
    found: list[tuple[Any, ...] | BadRow] = []
    for piece in pieces:
        for chunk in Images().read(STORAGE, piece, form.schema(STORAGE, entries), ["path", "image"], 2):
            assert len(chunk.numbers) <= 2
            found += ordered(chunk, len(found))
    assert found == [(item.name, Path(item.name).read_bytes()) for item in entries]


def test_a_piece_of_images_lies_in_one_folder_that_gives_values(tmp_path: Path) -> None:
    names = [f"{folder}/{number}.png" for folder in ("plain", "twin", "x=1", "x=2") for number in range(3)]
    pieces = Images().scan_all(STORAGE, [Entry(name, 1, "") for name in names], 100)
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 6), (6, 9), (9, 12)]
    assert [name for piece in pieces for name in piece.files] == names


def test_images_that_are_gone_are_bad_rows(tmp_path: Path) -> None:
    entries = images(tmp_path, 4)
    form = Images()
    (piece,) = form.scan_all(STORAGE, entries, 100)
    Path(entries[2].name).unlink()
    (chunk,) = form.read(STORAGE, piece, form.schema(STORAGE, entries), ["image"], 100)
    assert chunk.numbers == [0, 1, 3]
    assert chunk.bad[2].text == entries[2].name
    assert "cannot be read: " in chunk.bad[2].reason
    assert len(chunk.columns["image"]) == 3


def test_no_images_no_pieces() -> None:
    assert Images().scan_all(STORAGE, [], 10) == []
