"""Records in bytes: where the lines of CSV, JSON Lines and text begin and end, and reading them in blocks.

A line ends with ``\\n``, ``\\r\\n`` or ``\\r``; an empty line is no record. Where there is a delimiter, a value in
double quotes may hold line ends. Cutting a file and reading a piece of it share this one rule, so they agree
about every row's number. Knows not what a record says.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats.base import Chunk, Format, Piece, check_rows, reading
from forwardpass.jobs.storage import Entry, Storage

BLOCK_BYTES = 4 * 1024 * 1024
LONGEST_RECORD = 64 * 1024 * 1024
BOM = b"\xef\xbb\xbf"
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_LF, _CR, _QUOTE = b'\n\r"'

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's records are written: the byte where they begin, what parts values (None: nothing
    does, and quotes mean nothing), and the names in its header."""

    begin: int = 0
    delimiter: bytes | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Records:
    """Record ``i`` is ``data[starts[i]:ends[i]]``, without its line end. ``offset`` is where ``data`` lies."""

    data: bytes
    starts: Places
    ends: Places
    offset: int = 0

    @staticmethod
    def of(lines: Sequence[bytes]) -> Records:
        sizes = np.array([len(line) for line in lines], np.int64)
        ends = np.cumsum(sizes + 1) - 1
        return Records(b"\n".join(lines), ends - sizes, ends)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[bytes]:
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.data[start:end]

    def part(self, start: int, stop: int) -> Records:
        return Records(self.data, self.starts[start:stop], self.ends[start:stop], self.offset)

    @property
    def span(self) -> bytes:
        """The bytes of all records, with what lies between them."""
        return self.data[self.starts[0] : self.ends[-1]] if len(self) else b""


class LineFormat(Format):
    """A format whose rows are records in the lines of a file, which may be compressed."""

    def layout(self, storage: Storage, file: str) -> Layout:
        return Layout()

    @abstractmethod
    def parse(self, records: Records, number: int, schema: pa.Schema, columns: Sequence[str], layout: Layout) -> Chunk:
        """A chunk of these records, of which the first has that number."""

    def scan(self, storage: Storage, entry: Entry, rows: int) -> list[Piece]:
        layout = self.layout(storage, entry.name)
        compressed = is_compressed(entry.name)
        marks: list[int] = []  # where every ``rows``-th record begins
        count = 0
        for block in read_records(storage, entry.name, layout, None if compressed else entry.size):
            marks += (block.starts[-count % rows :: rows] + block.offset).tolist()
            count += len(block)
        if not count:
            return []
        if compressed:
            return [Piece(entry.name, 0, count)]
        if len(marks) > 1 and count - (len(marks) - 1) * rows < rows / 2:
            marks.pop()  # a last piece of a few rows goes to the one before
        starts = [place * rows for place in range(len(marks))]
        ranges = zip(starts, [*starts[1:], count], marks, [*marks[1:], entry.size], strict=True)
        return [Piece(entry.name, *each) for each in ranges]

    def read(
        self, storage: Storage, piece: Piece, schema: pa.Schema, columns: Sequence[str], rows: int
    ) -> Iterator[Chunk]:
        layout = self.layout(storage, piece.file)
        number = piece.start
        for block in read_records(storage, piece.file, layout, piece.end or None, piece.offset):
            for start in range(0, len(block), rows):
                part = block.part(start, start + rows)
                with reading(piece.file, self.name):
                    chunk = self.parse(part, number, schema, columns, layout)
                yield chunk
                number += len(part)
        check_rows(piece, number - piece.start)


def is_compressed(name: str) -> bool:
    return PurePosixPath(name.lower()).suffix in _COMPRESSIONS


@contextmanager
def opened(storage: Storage, name: str) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed where its name says so."""
    with ExitStack() as stack:
        file: Any = stack.enter_context(storage.open(name))
        compression = _COMPRESSIONS.get(PurePosixPath(name.lower()).suffix)
        if compression is not None:
            stack.enter_context(reading(name, f"{compression} data"))
            file = stack.enter_context(pa.CompressedInputStream(file, compression))
        yield file


def read_records(storage: Storage, name: str, layout: Layout, end: int | None, offset: int = 0) -> Iterator[Records]:
    """The records from ``offset`` (or where they begin) to ``end``, in blocks of some megabytes.

    Only a record's first byte may stand at ``offset``, and at ``end`` where that is not the file's.
    """
    begin = max(offset, layout.begin)
    with opened(storage, name) as file:
        _skip(file, begin, is_compressed(name))
        rest = b""
        final = False
        while not final:
            wanted = BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - begin - len(rest))
            block = read_fully(file, wanted)
            final = len(block) < wanted or (end is not None and end <= begin + len(rest) + len(block))
            if begin == 0 and not rest and block.startswith(BOM):
                block, begin = block[len(BOM) :], len(BOM)
            data = rest + block
            starts, ends, used = split(data, layout.delimiter, final)
            yield Records(data, starts, ends, begin)
            begin, rest = begin + used, data[used:]
            if len(rest) > LONGEST_RECORD:
                hint = "" if layout.delimiter is None else "; is a quote not closed?"
                raise InvalidInput(f"{name}: the row at byte {begin} is over {LONGEST_RECORD} bytes long{hint}")


def split(data: bytes, delimiter: bytes | None, final: bool) -> tuple[Places, Places, int]:
    """Starts and ends of the records in ``data``, which begins with one, and how many bytes they take up.

    The last one needs no line end where this is the ``final`` data.
    """
    ends = line_ends(data, delimiter)
    if final:
        ends = np.append(ends, len(data))
    starts = np.concatenate((np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1))
    held = ends > starts
    return starts[held], ends[held], min(len(data), int(ends[-1]) + 1) if len(ends) else 0


def line_ends(data: bytes, delimiter: bytes | None) -> Places:
    """Places of the bytes that end a line, which those between quotes do not."""
    values = np.frombuffer(data, np.uint8)
    ending = values == _LF
    if b"\r" in data:
        ending |= values == _CR
    ends: Places = np.flatnonzero(ending)
    if delimiter is None or b'"' not in data:
        return ends
    quotes = np.flatnonzero(values == _QUOTE)
    if not _is_regular(values, quotes, delimiter):
        return _walk(data, delimiter)
    outside: Places = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return outside


def is_closed(record: bytes, delimiter: bytes) -> bool:
    """Whether every quote in a record is closed; only a file's last one may leave one open."""
    return _record_pattern(delimiter).match(record + b"\n") is not None


def read_fully(file: BinaryIO, size: int) -> bytes:
    """``size`` bytes, fewer only at the end: blocks must not depend on how much a read happens to give."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_regular(values: NDArray[np.uint8], quotes: Places, delimiter: bytes) -> bool:
    """Whether every quote that opens by its parity stands where a quote can open: at the start of a value, or
    right after the one that it doubles. Then parity alone tells what is within quotes."""
    opening = quotes[::2]
    before = values[opening[opening > 0] - 1]
    return bool(np.isin(before, np.frombuffer(b'\n\r"' + delimiter, np.uint8)).all())


def _walk(data: bytes, delimiter: bytes) -> Places:
    """As ``line_ends``, value by value: for data with quotes that stand in the middle of values, as in 3.5" disk."""
    record = _record_pattern(delimiter)
    ends = []
    at = 0
    while found := record.match(data, at):
        at = found.end()
        ends.append(at - 1)
    return np.array(ends, np.int64)


@cache
def _record_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    """One record and the byte that ends it. All groups are possessive: nothing is tried twice."""
    other = rb"[^" + re.escape(delimiter) + rb"\r\n]"
    quoted = rb'"(?>[^"]++|"")*+"' + other + rb"*+"
    value = rb"(?>" + quoted + rb'|(?!")' + other + rb"++)?+"
    return re.compile(value + rb"(?>" + re.escape(delimiter) + value + rb")*+[\r\n]")


def _skip(file: BinaryIO, size: int, compressed: bool) -> None:
    if compressed:
        while size > 0 and (part := file.read(min(size, BLOCK_BYTES))):
            size -= len(part)
    elif size:
        file.seek(size)
