"""Parquet: read by row groups, a few thousand rows at a time however large those are; written with Snappy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from forwardpass.jobs.formats.base import Writer
from forwardpass.jobs.formats.groups import GroupFormat, Groups, joined

_BATCH_ROWS = 16 * 1024
_BATCH_BYTES = 8 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024  # per column: else all of a column's bytes in a row group are held at once
_GROUP_ROWS = 64 * 1024
_GROUP_BYTES = 32 * 1024 * 1024


class Parquet(GroupFormat):
    name = "parquet"
    suffixes = (".parquet", ".pq")

    def groups(self, file: BinaryIO) -> Groups:
        return _RowGroups(file)


class _RowGroups(Groups):
    def __init__(self, file: BinaryIO) -> None:
        self._file = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self.schema = self._file.schema_arrow

    def rows(self) -> list[int]:
        facts = self._file.metadata
        return [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for number in range(group, self._file.metadata.num_row_groups):
            facts = self._file.metadata.row_group(number)
            rows = _BATCH_BYTES * facts.num_rows // max(1, facts.total_byte_size)
            yield from self._file.iter_batches(
                min(max(rows, 1), _BATCH_ROWS), row_groups=[number], columns=list(columns), use_threads=False
            )


class ParquetWriter(Writer):
    """Row groups of 64 thousand rows, or fewer where those would take up much memory."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(file, schema, compression="snappy", use_dictionary=_repeating(schema))
        self._held: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            part, batch = batch.slice(0, _GROUP_ROWS - self._rows), batch.slice(_GROUP_ROWS - self._rows)
            self._held.append(part)
            self._rows += part.num_rows
            self._bytes += part.nbytes
            if self._rows == _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
                self._end_group()

    def close(self) -> None:
        if self._held:
            self._end_group()
        self._writer.close()

    def give_up(self) -> None:
        self._writer.is_open = False  # else it writes a footer once it is collected, perhaps to a file that is closed

    def _end_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches([joined(self._held)], self._schema))
        self._held, self._rows, self._bytes = [], 0, 0


def _repeating(schema: pa.Schema) -> list[str]:
    """Columns whose values may repeat. Scores do not, and to look for it takes more time than to write them."""
    return [item.name for item in schema if not (pa.types.is_floating(item.type) or pa.types.is_nested(item.type))]
