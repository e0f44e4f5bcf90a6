"""Arrow's own files (IPC): the file format, which is Feather version 2 as well, and the stream format.

A record batch is read as a whole, so it sets the memory that a reader takes. A stream has no list of its
batches: to enter it, all before are read over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa

from forwardpass.jobs.formats.base import Writer
from forwardpass.jobs.formats.groups import GroupFormat, Groups

_MAGIC = b"ARROW1"


class Arrow(GroupFormat):
    name = "arrow"
    suffixes = (".arrow", ".feather", ".ipc")

    def groups(self, file: BinaryIO) -> Groups:
        file.seek(0)
        magic = file.read(len(_MAGIC))
        return _FileBatches(file) if magic == _MAGIC else _StreamBatches(file)


class _StreamBatches(Groups):
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.schema = self._open(None).schema

    def rows(self) -> list[int]:
        return [batch.num_rows for batch in self._all(self._open([0]))]

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        fields = [self.schema.get_field_index(name) for name in columns]
        yield from self._all(self._open(sorted(fields) or [0]), group)

    def _open(self, fields: list[int] | None) -> Any:
        """A reader of these columns only."""
        self._file.seek(0)
        return pa.ipc.open_stream(self._file, options=_options(fields))

    def _all(self, reader: Any, start: int = 0) -> Iterator[pa.RecordBatch]:
        yield from islice(reader, start, None)


class _FileBatches(_StreamBatches):
    def _open(self, fields: list[int] | None) -> Any:
        return pa.ipc.open_file(self._file, options=_options(fields))

    def _all(self, reader: Any, start: int = 0) -> Iterator[pa.RecordBatch]:
        for number in range(start, reader.num_record_batches):
            yield reader.get_batch(number)


def _options(fields: list[int] | None) -> pa.ipc.IpcReadOptions:
    return pa.ipc.IpcReadOptions(included_fields=fields or [], use_threads=False)


class ArrowWriter(Writer):
    """The file format, compressed with Zstandard; a record batch per batch written."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
        self._writer = pa.ipc.new_file(file, schema, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()
