"""CSV with a header: every value is text, and an empty one without quotes is missing. Empty lines are no rows.

Values are parted by what the header says (``,`` ``;`` tab ``|``), in ``.tsv`` by tabs. A row with another number
of values than the header is bad, and so is one that is not UTF-8; the rows around it are read all the same.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats.base import BadRow, Chunk, Writer, shorten
from forwardpass.jobs.formats.lines import (
    BOM,
    Layout,
    LineFormat,
    Records,
    is_closed,
    opened,
    read_fully,
    read_records,
    split,
)
from forwardpass.jobs.formats.values import json_bytes, json_values
from forwardpass.jobs.storage import Entry, Storage

_SAMPLE_BYTES = 1024 * 1024
_HEADER_BYTES = 64 * 1024
_LONGEST_HEADER = 4 * 1024 * 1024
_DELIMITERS = (b",", b";", b"\t", b"|")
_MISSING = [""]


class Csv(LineFormat):
    name = "csv"
    suffixes = (".csv", ".tsv")
    typed = False

    def layout(self, storage: Storage, file: str) -> Layout:
        size = _HEADER_BYTES
        while True:
            with opened(storage, file) as stream:
                head = read_fully(stream, size)
            found = _header(file, head, final=len(head) < size)
            if found is not None:
                return found
            if size >= _LONGEST_HEADER:
                raise InvalidInput(f"{file}: its header is over {size} bytes long; is a quote not closed?")
            size = _LONGEST_HEADER

    def schema(self, storage: Storage, entries: Sequence[Entry]) -> pa.Schema:
        """Names of the header, which all files must share in any order, and types told from the first megabyte."""
        first = self.layout(storage, entries[0].name)
        for entry in entries[1:]:
            names = self.layout(storage, entry.name).names
            unlike = sorted(set(names) ^ set(first.names))
            if unlike:
                has, lacks = (entry, entries[0]) if unlike[0] in names else (entries[0], entry)
                raise InvalidInput(f"{has.name} has a column {unlike[0]!r}, {lacks.name} has not: all need the same")
        return _told(next(read_records(storage, entries[0].name, first, None)), first)

    def parse(self, records: Records, number: int, schema: pa.Schema, columns: Sequence[str], layout: Layout) -> Chunk:
        table, wrong = _parse(records, layout, list(columns) or [layout.names[0]])
        bad = {number + place: row for place, row in wrong.items()}
        numbers = [place for place in range(number, number + len(records)) if place not in bad]
        return Chunk(numbers, {name: table.column(name).combine_chunks() for name in columns}, bad)


class CsvWriter(Writer):
    """Quotes only where a value needs them; lists and structs as JSON, byte strings as base64, nulls as nothing.

    A null in a table of one column is written as an empty text, as its line would else be empty.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._missing = "" if len(schema) > 1 else '""'
        names = _quoted(pa.array(schema.names, pa.string()))
        file.write(",".join(names.to_pylist()).encode() + b"\n")

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows and batch.num_columns:
            columns = [_texts(column).fill_null(self._missing) for column in batch.columns]
            lines = pc.binary_join_element_wise(*columns, ",")
            self._file.write("\n".join(lines.to_pylist()).encode() + b"\n")

    def close(self) -> None:
        pass


def _header(file: str, head: bytes, final: bool) -> Layout | None:
    """The layout that the first bytes of a file tell; None where the header does not end in them."""
    start = len(BOM) if head.startswith(BOM) else 0
    delimiter = b"\t" if ".tsv" in PurePosixPath(file.lower()).suffixes else _delimiter(head[start:])
    starts, ends, _ = split(head[start:], delimiter, final)
    if not len(starts):
        if final:
            raise InvalidInput(f"{file}: is empty; its first line must name the columns")
        return None
    line = head[start + int(starts[0]) : start + int(ends[0])]
    names = _names(file, line, delimiter)
    return Layout(min(start + int(ends[0]) + 1, len(head)), delimiter, names)


def _names(file: str, line: bytes, delimiter: bytes) -> tuple[str, ...]:
    try:
        options = _parse_options(line, delimiter)
        names = pacsv.read_csv(pa.BufferReader(line + b"\n"), _read_options(line + b"\n"), options).column_names
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: its first line does not name the columns: {error}") from None
    for name, times in Counter(names).items():
        if times > 1:
            raise InvalidInput(f"{file}: its header names {name!r} {times} times; name every column once")
    return tuple(names)


def _delimiter(head: bytes) -> bytes:
    """What stands most often in the first line, outside of quotes."""
    lines = re.split(rb"[\r\n]+", re.sub(rb'"[^"]*"', b"", head).lstrip(b"\r\n"), maxsplit=1)
    return max(_DELIMITERS, key=lines[0].count)


def _parse(records: Records, layout: Layout, columns: list[str]) -> tuple[pa.Table, dict[int, BadRow]]:
    """The good records as text, and the bad ones by their place among these."""
    bad = _not_utf8(records)
    if not bad:
        return _arrow(records, layout, columns)
    good = [place for place in range(len(records)) if place not in bad]
    lines = list(records)
    table, wrong = _arrow(Records.of([lines[place] for place in good]), layout, columns)
    return table, bad | {good[place]: row for place, row in wrong.items()}


def _not_utf8(records: Records) -> dict[int, BadRow]:
    """The whole row, whichever columns are asked for."""
    if records.span.isascii() or _utf8_error(records.span) is None:
        return {}
    errors = ((place, line, _utf8_error(line)) for place, line in enumerate(records))
    return {place: BadRow(f"not UTF-8 text ({error})", shorten(line)) for place, line, error in errors if error}


def _utf8_error(data: bytes) -> str | None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"{error.reason} at byte {error.start}"
    return None


def _arrow(records: Records, layout: Layout, columns: list[str]) -> tuple[pa.Table, dict[int, BadRow]]:
    if not len(records):
        return pa.schema([pa.field(name, pa.string()) for name in columns]).empty_table(), {}
    delimiter = layout.delimiter or b","
    data = records.span
    if data.endswith(delimiter) and is_closed(data[records.starts[-1] - records.starts[0] :], delimiter):
        data += b"\n"  # else Arrow takes the last value, which is empty, to be quoted as the one before is
    bad: dict[int, BadRow] = {}

    def set_aside(row: pacsv.InvalidRow) -> str:
        reason = f"{row.actual_columns} values where the header names {row.expected_columns} columns"
        bad[row.number - 1] = BadRow(reason, shorten(row.text))
        return "skip"

    table = pacsv.read_csv(
        pa.BufferReader(data),
        _read_options(data, layout.names),
        _parse_options(data, delimiter, set_aside),
        pacsv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=columns,
            null_values=_MISSING,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    if table.num_rows + len(bad) != len(records):
        raise pa.ArrowInvalid(f"{len(records)} rows are told by line ends, {table.num_rows + len(bad)} by values")
    return table, bad


def _told(records: Records, layout: Layout) -> pa.Schema:
    """The types that Arrow tells from the first megabyte: numbers, truth values and times, else text."""
    data = records.part(0, max(1, int((records.ends <= _SAMPLE_BYTES).sum()))).span
    kinds = dict.fromkeys(layout.names, pa.string())
    try:
        options = pacsv.ConvertOptions(null_values=_MISSING, strings_can_be_null=True)
        parse = _parse_options(data, layout.delimiter, lambda _: "skip")
        table = pacsv.read_csv(pa.BufferReader(data), _read_options(data, layout.names), parse, options)
        kinds |= {field.name: field.type for field in table.schema if _is_told(field.type)}
    except pa.ArrowInvalid:
        pass  # no row at all, or none that Arrow can read: text, as all values are
    return pa.schema(list(kinds.items()))


def _is_told(kind: pa.DataType) -> bool:
    return not (pa.types.is_null(kind) or pa.types.is_binary(kind))


def _read_options(data: bytes, names: Sequence[str] = ()) -> pacsv.ReadOptions:
    """One block, so that Arrow counts rows from its first."""
    return pacsv.ReadOptions(use_threads=False, block_size=max(1, len(data)), column_names=list(names) or None)


def _parse_options(
    data: bytes, delimiter: bytes | None, invalid: Callable[[pacsv.InvalidRow], str] | None = None
) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(
        delimiter=(delimiter or b",").decode(), newlines_in_values=b'"' in data, invalid_row_handler=invalid
    )


def _texts(array: pa.Array) -> pa.Array:
    """A column as CSV writes it. Numbers, truth values and times hold nothing that needs quotes."""
    kind = array.type
    if pa.types.is_nested(kind):
        written = zip(json_values(array), array.is_valid().to_pylist(), strict=True)
        return _quoted(
            pa.array([json_bytes(value).decode() if valid else None for value, valid in written], pa.string())
        )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        encoded = [None if value is None else b64encode(value).decode("ascii") for value in array.to_pylist()]
        return _quoted(pa.array(encoded, pa.string()))
    texts = array.cast(pa.string())
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    return _quoted(texts) if is_text else texts


def _quoted(texts: pa.Array) -> pa.Array:
    """Quotes around what holds a quote, a delimiter or a line end, and around the text that is empty."""
    needed = pc.match_substring_regex(texts, r'[",\r\n]|^$')
    return pc.if_else(needed, pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', ""), texts)
