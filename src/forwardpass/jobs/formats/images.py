"""A folder or pattern of images: a row per file, with the columns ``path`` and ``image`` (its bytes, not decoded).

Rows are counted over the files as they were listed. A piece names its files itself, so that it is read back
as it was planned, without listing again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import pyarrow as pa

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.jobs.formats.base import BadRow, Chunk, Format, Piece
from forwardpass.jobs.storage import Entry, Storage

_CHUNK_BYTES = 64 * 1024 * 1024
PATH, IMAGE = "path", "image"


class Images(Format):
    name = "images"
    suffixes = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
    typed = True

    def schema(self, storage: Storage, entries: Sequence[Entry]) -> pa.Schema:
        return pa.schema([pa.field(PATH, pa.string()), pa.field(IMAGE, pa.binary())])

    def scan(self, storage: Storage, entry: Entry, rows: int) -> list[Piece]:
        return self.scan_all(storage, [entry], rows)

    def scan_all(self, storage: Storage, entries: Sequence[Entry], rows: int) -> list[Piece]:
        pieces: list[Piece] = []
        for _, group in groupby((entry.name for entry in entries), _partition):
            pieces += _cut(tuple(group), pieces[-1].stop if pieces else 0, rows)
        return pieces

    def read(
        self, storage: Storage, piece: Piece, schema: pa.Schema, columns: Sequence[str], rows: int
    ) -> Iterator[Chunk]:
        """A file that is gone, or that may not be read, is a bad row."""
        content: list[bytes] = []
        paths: list[str] = []
        numbers: list[int] = []
        bad: dict[int, BadRow] = {}
        size = 0
        for number, name in enumerate(piece.files, piece.start):
            try:
                data = storage.read(name) if IMAGE in columns else b""
                numbers.append(number)
                paths.append(name)
                content.append(data)
                size += len(data)
            except (NotFound, InvalidInput) as error:
                bad[number] = BadRow(f"cannot be read: {error.message}", name)
            if len(numbers) + len(bad) == rows or size >= _CHUNK_BYTES:
                yield _chunk(numbers, paths, content, bad, columns)
                content, paths, numbers, bad, size = [], [], [], {}, 0
        if numbers or bad:
            yield _chunk(numbers, paths, content, bad, columns)


def _partition(name: str) -> str:
    """The folder, where its name gives values to the files in it (``label=cat``): a piece has one of each."""
    folder = name.rpartition("/")[0]
    return folder if "=" in folder else ""


def _cut(names: tuple[str, ...], first: int, rows: int) -> list[Piece]:
    parts = -(-len(names) // rows)
    bounds = pairwise(len(names) * part // parts for part in range(parts + 1))
    return [Piece(names[start], first + start, first + stop, files=names[start:stop]) for start, stop in bounds]


def _chunk(
    numbers: list[int], paths: list[str], content: list[bytes], bad: dict[int, BadRow], columns: Sequence[str]
) -> Chunk:
    every = {PATH: pa.array(paths, pa.string()), IMAGE: content}
    return Chunk(numbers, {name: every[name] for name in columns}, bad)
