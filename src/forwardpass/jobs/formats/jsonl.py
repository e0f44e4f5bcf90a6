"""JSON Lines: a row per line, each an object. A key that is missing is a missing value; empty lines are no rows.

Written with shortest numbers, NaN and infinities as null, byte strings as ``{"b64": …}``, times in ISO 8601.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from forwardpass.jobs.formats.base import BadRow, Chunk, Writer, shorten
from forwardpass.jobs.formats.lines import Layout, LineFormat, Records, read_records
from forwardpass.jobs.formats.values import json_bytes, json_values
from forwardpass.jobs.storage import Entry, Storage

_ROWS_TO_TELL_TYPES = 1000


class JsonLines(LineFormat):
    name = "jsonl"
    suffixes = (".jsonl", ".ndjson")
    typed = True

    def schema(self, storage: Storage, entries: Sequence[Entry]) -> pa.Schema:
        """Types of the first thousand rows; text where values of a column have several, or none."""
        rows = list(islice(self._objects(storage, entries), _ROWS_TO_TELL_TYPES))
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.schema([pa.field(name, _type([row.get(name) for row in rows])) for name in names])

    def parse(self, records: Records, number: int, schema: pa.Schema, columns: Sequence[str], layout: Layout) -> Chunk:
        numbers: list[int] = []
        rows: list[dict[str, Any]] = []
        bad: dict[int, BadRow] = {}
        for place, line in enumerate(records, number):
            row = _decode(line)
            if isinstance(row, BadRow):
                bad[place] = row
            else:
                numbers.append(place)
                rows.append(row)
        return Chunk(numbers, {name: [row.get(name) for row in rows] for name in columns}, bad)

    def _objects(self, storage: Storage, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        for entry in entries:
            for block in read_records(storage, entry.name, Layout(), None):
                for line in block:
                    row = _decode(line)
                    if not isinstance(row, BadRow):
                        yield row


class JsonLinesWriter(Writer):
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._names = schema.names

    def write(self, batch: pa.RecordBatch) -> None:
        values = [json_values(column) for column in batch.columns]
        rows = (dict(zip(self._names, row, strict=True)) for row in zip(*values, strict=True))
        self._file.write(b"".join(json_bytes(row) + b"\n" for row in rows))

    def close(self) -> None:
        pass


def _decode(line: bytes) -> dict[str, Any] | BadRow:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BadRow(f"not valid JSON: {error}", shorten(line))
    if isinstance(row, dict):
        return row
    return BadRow("not a JSON object: a row is written {column: value, …}", shorten(line))


def _type(values: list[Any]) -> pa.DataType:
    try:
        told = pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.string()
    return pa.string() if pa.types.is_null(told) else told
