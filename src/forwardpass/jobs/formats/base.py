"""The contract of a format: what rows a file holds, reading a range of them, and writing.

Rows are read in chunks of columns. A row that cannot be read is told, and does not stop the others.
Knows no models and no jobs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self

import msgspec
import pyarrow as pa

from forwardpass.errors import InvalidInput
from forwardpass.jobs.storage import Entry, Storage

_SHOWN = 200  # characters of a bad row that are kept


class Piece(msgspec.Struct, frozen=True):
    """Rows ``start`` to ``stop`` (not included) of a file, counted from 0.

    ``offset`` and ``end`` are the bytes they lie in, where the format counts bytes (else 0). Where each
    row is a file of its own, ``files`` names those, ``file`` is the first of them, and rows are counted
    over the whole data set.
    """

    file: str
    start: int
    stop: int
    offset: int = 0
    end: int = 0
    files: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: why, and what stands there (shortened)."""

    reason: str
    text: str = ""


@dataclass(slots=True)
class Chunk:
    """Some rows of a file. ``numbers`` are their places in the file, ascending; ``bad`` are by place.

    A column is an Arrow array, or a list of Python values where the format knows no types (JSON Lines,
    images as ``bytes``); ``None`` and null stand for a value that is missing. All have as many rows as
    ``numbers``; bad rows are not among them.
    """

    numbers: list[int]
    columns: dict[str, pa.Array | list[Any]]
    bad: dict[int, BadRow] = field(default_factory=dict)


class Format(ABC):
    """One format. A reader is made for one data set: all its files have one schema.

    Raises ``InvalidInput`` that names the file where one cannot be read as what it should be, or holds
    other rows than when it was scanned; what the storage raises passes through.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    typed: ClassVar[bool]  # whether values have types: else a number may be written as text

    @abstractmethod
    def schema(self, storage: Storage, entries: Sequence[Entry]) -> pa.Schema:
        """Names and types of the columns. Formats without types tell them from the first rows."""

    @abstractmethod
    def scan(self, storage: Storage, entry: Entry, rows: int) -> list[Piece]:
        """All rows of a file, cut into pieces of about even size, none much over ``rows`` rows.

        A file that can only be read from its start (a compressed one) is one piece.
        """

    def scan_all(self, storage: Storage, entries: Sequence[Entry], rows: int) -> list[Piece]:
        """All rows of the data set, in the order of its files."""
        return [piece for entry in entries for piece in self.scan(storage, entry, rows)]

    @abstractmethod
    def read(
        self, storage: Storage, piece: Piece, schema: pa.Schema, columns: Sequence[str], rows: int
    ) -> Iterator[Chunk]:
        """The rows of a piece, in order, at most ``rows`` per chunk; only the named columns.

        Needs nothing but what it is given: a piece scanned in one process is read in another. Chunks are
        cut the same way every time.
        """


class Writer(ABC):
    """Writes one file. Bytes depend on nothing but the rows, the schema and how they are cut into batches."""

    @abstractmethod
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None: ...

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file's content; ``file`` itself stays open."""

    def give_up(self) -> None:  # noqa: B027 - most have nothing to let go
        """Let go of ``file``, whose content is of no use any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.give_up()


@contextmanager
def reading(file: str, as_what: str) -> Iterator[None]:
    """Turns what Arrow says of a broken file into ``InvalidInput``; errors of the storage pass through."""
    try:
        yield
    except pa.ArrowException as error:
        raise InvalidInput(f"{file}: cannot be read as {as_what}: {_first_line(error)}") from error
    except OSError as error:
        if error.errno is not None:  # the system's; Arrow's own, as for a corrupt page, have no number
            raise
        raise InvalidInput(f"{file}: cannot be read as {as_what}: {_first_line(error)}") from error


def check_rows(piece: Piece, read: int) -> None:
    """Raises ``InvalidInput`` where a piece did not hold as many rows as when it was scanned."""
    if read != piece.rows:
        raise InvalidInput(
            f"{piece.file}: {read} rows where {piece.rows} were planned (rows {piece.start} to {piece.stop}); "
            "it was changed meanwhile: start the job anew"
        )


def shorten(text: str | bytes) -> str:
    """What stands in a bad row, for people."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
