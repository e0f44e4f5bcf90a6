"""A data set read as a job reads it: cut into pieces, and each of those in chunks, by readers that share nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from forwardpass.jobs.formats import BadRow, Chunk, Format, Piece, create_format, create_writer
from forwardpass.jobs.storage import Entry
from forwardpass.jobs.storage.local import LocalStorage

STORAGE = LocalStorage()


def entry(path: Path) -> Entry:
    found = STORAGE.find(str(path))
    assert found is not None
    return found


def pieces_of(path: Path, rows: int, form: Format | None = None) -> list[Piece]:
    return (form or create_format([str(path)])).scan(STORAGE, entry(path), rows)


def chunks_of(path: Path, piece: Piece, rows: int, columns: list[str] | None = None) -> list[Chunk]:
    """By a reader of its own."""
    form = create_format([str(path)])
    schema = form.schema(STORAGE, [entry(path)])
    return list(form.read(STORAGE, piece, schema, schema.names if columns is None else columns, rows))


def values(column: pa.Array | list[Any]) -> list[Any]:
    return list(column.to_pylist()) if isinstance(column, pa.Array) else column


def rows_of(path: Path, cut: int = 1 << 40, rows: int = 1000) -> list[tuple[Any, ...] | BadRow]:
    """Every row of a file in order, good ones as their values; checks that numbers run on without a gap."""
    found: list[tuple[Any, ...] | BadRow] = []
    for piece in pieces_of(path, cut):
        assert piece.start == len(found)
        for chunk in chunks_of(path, piece, rows):
            found += ordered(chunk, len(found))
        assert piece.stop == len(found)
    return found


def ordered(chunk: Chunk, first: int) -> list[tuple[Any, ...] | BadRow]:
    """A chunk's rows by their number, of which ``first`` is the lowest."""
    columns = [values(column) for column in chunk.columns.values()]
    assert all(len(column) == len(chunk.numbers) for column in columns)
    good = dict(zip(chunk.numbers, zip(*columns, strict=True), strict=True))
    assert chunk.numbers == sorted(good)
    assert not good.keys() & chunk.bad.keys()
    every: dict[int, tuple[Any, ...] | BadRow] = {**good, **chunk.bad}
    assert sorted(every) == list(range(first, first + len(every)))
    return [every[number] for number in sorted(every)]


def write(path: Path, table: pa.Table, batch_rows: int = 1000) -> Path:
    """By our own writer, the one that the file's suffix names."""
    with path.open("wb") as file:
        form = create_format([str(path)])
        with create_writer(form.name, file, table.schema) as writer:
            for batch in table.to_batches(batch_rows):
                writer.write(batch)
        assert not file.closed
    return path
