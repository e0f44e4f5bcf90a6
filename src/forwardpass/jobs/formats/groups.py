"""Formats whose files hold groups of rows with types: cutting them, and reading on from where a piece ended.

A group is what a file can be entered at: a row group of Parquet, a record batch of Arrow. Pieces are whole
groups where those are small, and even parts of one where it is large. A part is found by reading its group
from the start; who reads pieces in their order reads each group once, since the reader stays where it was.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, pairwise
from typing import BinaryIO

import pyarrow as pa

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats.base import Chunk, Format, Piece, check_rows, reading
from forwardpass.jobs.storage import Entry, Storage

_CHUNK_BYTES = 32 * 1024 * 1024
_LOOKS_AT_ONCE = 16


class Groups(ABC):
    """An open file, seen as groups of rows."""

    schema: pa.Schema

    @abstractmethod
    def rows(self) -> list[int]:
        """Rows of each group."""

    @abstractmethod
    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of that group and all after it, some at a time, cut alike wherever one begins."""


class GroupFormat(Format):
    """A format whose files are groups of rows. An instance is used by one thread."""

    typed = True

    def __init__(self) -> None:
        self._cursor: _Cursor | None = None
        self._rows: dict[Entry, list[int]] = {}  # of each group; files are looked into once
        self.unreadable: dict[str, str] = {}  # files that ``schema`` was given and could not read, and why

    @abstractmethod
    def groups(self, file: BinaryIO) -> Groups:
        """What an open file holds."""

    def schema(self, storage: Storage, entries: Sequence[Entry]) -> pa.Schema:
        """The first file's columns; those that hold few values many times are told as what these are.

        Files that cannot be read are ``unreadable`` from then on; raises where all are.
        """
        with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:  # a look is a few round trips, where files lie far away
            looks = list(pool.map(partial(self._try_look, storage), entries))
        schemas = [(entry, look) for entry, look in zip(entries, looks, strict=True) if isinstance(look, pa.Schema)]
        if not schemas:
            raise next(look for look in looks if isinstance(look, InvalidInput))
        broken = zip(entries, looks, strict=True)
        self.unreadable = {entry.name: look.message for entry, look in broken if isinstance(look, InvalidInput)}
        first_entry, first = schemas[0]
        for entry, schema in schemas[1:]:
            _check_same(first, first_entry.name, schema, entry.name)
        return first

    def scan(self, storage: Storage, entry: Entry, rows: int) -> list[Piece]:
        """Of a file that is unreadable one piece of no rows, which cannot be read."""
        if entry.name in self.unreadable:
            return [Piece(entry.name, 0, 0)]
        if entry not in self._rows:
            self._look(storage, entry)
        return cut(entry.name, self._rows[entry], rows)

    def read(
        self, storage: Storage, piece: Piece, schema: pa.Schema, columns: Sequence[str], rows: int
    ) -> Iterator[Chunk]:
        number = piece.start
        with reading(piece.file, self.name):
            cursor = self._take_cursor(storage, piece, columns)
            _require_rows(piece)
            for batch in regroup(cursor.read(piece.start, piece.stop), rows):
                arrays = {name: plain(batch.column(name)) for name in columns}
                yield Chunk(list(range(number, number + batch.num_rows)), arrays)
                number += batch.num_rows
        check_rows(piece, number - piece.start)
        self._cursor = cursor

    def _take_cursor(self, storage: Storage, piece: Piece, columns: Sequence[str]) -> _Cursor:
        """The one that was left if it is of this file, else a new one. Who takes it has it alone."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None and cursor.suits(piece, columns):
            return cursor
        file = storage.open(piece.file)
        try:
            return _Cursor(piece.file, file, self.groups(file), columns)
        except BaseException:
            file.close()
            raise

    def _try_look(self, storage: Storage, entry: Entry) -> pa.Schema | InvalidInput:
        try:
            return self._look(storage, entry)
        except InvalidInput as error:
            return error

    def _look(self, storage: Storage, entry: Entry) -> pa.Schema:
        with storage.open(entry.name) as file, reading(entry.name, self.name):
            groups = self.groups(file)
            self._rows[entry] = groups.rows()
        return pa.schema([pa.field(item.name, _plain_type(item.type)) for item in groups.schema])


class _Cursor:
    """Reads a file's batches forward, and remembers the one it is in."""

    def __init__(self, name: str, file: BinaryIO, groups: Groups, columns: Sequence[str]) -> None:
        self._name = name
        self._groups = groups
        self._columns = list(columns)
        self._starts = [0, *accumulate(groups.rows())]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._at = -1  # the first row of the batch held, or of the next one
        self._held: pa.RecordBatch | None = None
        weakref.finalize(self, file.close)

    def suits(self, piece: Piece, columns: Sequence[str]) -> bool:
        return (self._name, self._columns) == (piece.file, list(columns))

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        self._enter(start)
        while self._at < stop:
            batch = next(self._batches, None) if self._held is None else self._held
            if batch is None:
                return
            self._held = batch
            end = self._at + batch.num_rows
            if end > start:
                first = max(start - self._at, 0)
                yield batch.slice(first, min(stop, end) - self._at - first)
            if end > stop:
                return  # the next piece begins in this batch
            self._at, self._held = end, None

    def _enter(self, start: int) -> None:
        """Go to the group that holds ``start``, unless reading on gets there sooner."""
        group = bisect_right(self._starts, start) - 1
        if not self._starts[group] <= self._at <= start:
            self._batches = self._groups.batches(group, self._columns)
            self._at, self._held = self._starts[group], None


def cut(name: str, groups: Sequence[int], rows: int) -> list[Piece]:
    """Pieces of at most ``rows`` rows."""
    bounds = [0]
    at = 0
    for group in groups:
        if at + group - bounds[-1] > rows and at > bounds[-1]:
            bounds.append(at)
        if group > rows:
            parts = -(-group // rows)
            bounds += [at + group * part // parts for part in range(1, parts + 1)]
        at += group
    if at > bounds[-1]:
        bounds.append(at)
    return [Piece(name, start, stop) for start, stop in pairwise(bounds)]


def regroup(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ``rows``, fewer where they take up much memory, and at the end."""
    held: list[pa.RecordBatch] = []
    missing, size = rows, 0
    for batch in batches:
        while batch.num_rows:
            part, batch = batch.slice(0, missing), batch.slice(missing)
            held.append(part)
            missing -= part.num_rows
            size += part.nbytes
            if missing == 0 or size >= _CHUNK_BYTES:
                yield joined(held)
                held, missing, size = [], rows, 0
    if held:
        yield joined(held)


def joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def plain(array: pa.Array) -> pa.Array:
    """Values themselves, where the file keeps each once and refers to it."""
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode()
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _require_rows(piece: Piece) -> None:
    """Raises ``InvalidInput`` for the piece of a file that was unreadable when it was scanned, and is not now."""
    if piece.rows == 0:
        raise InvalidInput(f"{piece.file}: could not be read when the job was planned, and can be now; --resume does")


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _check_same(first: pa.Schema, first_name: str, other: pa.Schema, other_name: str) -> None:
    """Raises ``InvalidInput`` unless both have the same columns, in any order."""
    for item in first:
        if item.name not in other.names:
            raise InvalidInput(f"{other_name} has no column {item.name!r}, which {first_name} has: all need the same")
        found = other.field(item.name).type
        if found != item.type:
            raise InvalidInput(f"{other_name}: column {item.name!r} is {found}, but {item.type} in {first_name}")
    for name in other.names:
        if name not in first.names:
            raise InvalidInput(f"{first_name} has no column {name!r}, which {other_name} has: all need the same")
