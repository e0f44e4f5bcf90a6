"""A data set: files of one format, the columns they have, and reading some rows of them.

Folders named ``key=value`` on the way to a file are columns of all its rows, as usual for
partitioned data sets. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath

import msgspec
import pyarrow as pa

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats import create_format
from forwardpass.jobs.formats.base import BadRow, Chunk, Format, Piece
from forwardpass.jobs.storage import Entry, create_storage
from forwardpass.jobs.values import Column, take, typed_array
from forwardpass.jobs.where import Where


class Facts(msgspec.Struct, frozen=True):
    """What another process must know to read pieces. ``schema`` is Arrow's own serialisation."""

    format: str
    example: str  # one file's name, for its suffix
    schema: bytes
    partitions: tuple[str, ...]
    where: str


@dataclass(slots=True)
class Rows:
    """Rows to run: ``columns`` as the format gives them, ``numbers`` their places in the file.

    ``bad`` are rows that cannot be read, ``left_out`` counts those that ``where`` does not want.
    """

    numbers: list[int]
    columns: dict[str, Column]
    bad: dict[int, BadRow] = field(default_factory=dict)
    left_out: int = 0


class DataSet:
    """Reads pieces. ``schema`` has the columns of the files and then those of their folders.

    ``typed`` false: numbers come as text, as they are written.
    """

    def __init__(self, facts: Facts) -> None:
        """Raises ``InvalidInput`` where ``where`` is no condition on these columns."""
        self.schema: pa.Schema = pa.ipc.read_schema(pa.BufferReader(facts.schema))
        self._reader = create_format([facts.example], facts.format)
        self.typed = self._reader.typed
        self._partitions = facts.partitions
        self._own = pa.schema([item for item in self.schema if item.name not in facts.partitions])
        self._where = Where(facts.where, self.schema) if facts.where else None

    def read(self, piece: Piece, columns: Sequence[str], rows: int) -> Iterator[Rows]:
        """The rows of a piece in order, at most ``rows`` at once, cut the same way every time."""
        looked_at = self._where.columns if self._where else []
        wanted = list(dict.fromkeys([*columns, *looked_at]))
        own = [name for name in wanted if name not in self._partitions]
        folders = _folders(piece.file)
        for chunk in self._reader.read(create_storage(piece.file), piece, self._own, own, rows):
            for name in set(wanted).intersection(self._partitions):
                chunk.columns[name] = self._constant(name, folders.get(name), len(chunk.numbers))
            yield self._chosen(chunk)

    def _constant(self, name: str, text: str | None, rows: int) -> pa.Array:
        kind = self.schema.field(name).type
        value = int(text) if text is not None and pa.types.is_integer(kind) else text
        return pa.array([value] * rows, kind)

    def _chosen(self, chunk: Chunk) -> Rows:
        rows = Rows(chunk.numbers, chunk.columns, chunk.bad)
        if self._where is None:
            return rows
        typed: dict[str, pa.Array] = {}
        wrong: dict[int, str] = {}
        for name in self._where.columns:
            typed[name], errors = typed_array(chunk.columns[name], self.schema.field(name))
            wrong.update(errors)
        bad = {chunk.numbers[at]: BadRow(reason) for at, reason in wrong.items()}
        matches = self._where.matches(typed, len(chunk.numbers))
        keep = [at for at, yes in enumerate(matches) if yes and at not in wrong]
        left_out = len(chunk.numbers) - len(keep) - len(bad)
        return Rows([chunk.numbers[at] for at in keep], take(chunk.columns, keep), {**chunk.bad, **bad}, left_out)


@dataclass(frozen=True)
class Found:
    """A data set as it was found: its files, a format that reads them, and what a worker must know."""

    entries: list[Entry]
    reader: Format
    facts: Facts


def find_data_set(names: Sequence[str], given: str | None, where: str) -> Found:
    """The data set of these files, folders and globs. Raises ``NotFound`` or ``InvalidInput``."""
    entries = list(chain.from_iterable(create_storage(name).list(name) for name in names))
    reader = create_format([entry.name for entry in entries], given)
    own = reader.schema(create_storage(names[0]), entries)
    added = [item for item in _partition_fields(entries) if item.name not in own.names]
    schema = pa.schema([*own, *added])
    content = schema.serialize().to_pybytes()
    facts = Facts(reader.name, entries[0].name, content, tuple(item.name for item in added), where)
    return Found(entries, reader, facts)


def _folders(name: str) -> dict[str, str]:
    """The values that ``key=value`` folders give."""
    pairs = [part.partition("=") for part in PurePosixPath(name).parent.parts if "=" in part]
    return {key: value for key, _, value in pairs if key}


def _partition_fields(entries: Sequence[Entry]) -> list[pa.Field]:
    folders = [_folders(entry.name) for entry in entries]
    names = list(folders[0])
    for entry, values in zip(entries, folders, strict=True):
        if list(values) != names:
            raise InvalidInput(f"{entry.name}: lies in folders {list(values)} where {entries[0].name} lies in {names}")
    whole = {name: all(_is_whole(values[name]) for values in folders) for name in names}
    return [pa.field(name, pa.int64() if whole[name] else pa.string()) for name in names]


def _is_whole(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19
