"""Plain text: a row per line, in one column ``text``. Empty lines are no rows."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from forwardpass.jobs.formats.base import BadRow, Chunk, shorten
from forwardpass.jobs.formats.lines import Layout, LineFormat, Records
from forwardpass.jobs.storage import Entry, Storage

COLUMN = "text"


class Text(LineFormat):
    name = "text"
    suffixes = (".txt",)
    typed = False

    def schema(self, storage: Storage, entries: Sequence[Entry]) -> pa.Schema:
        return pa.schema([pa.field(COLUMN, pa.string())])

    def parse(self, records: Records, number: int, schema: pa.Schema, columns: Sequence[str], layout: Layout) -> Chunk:
        numbers: list[int] = []
        texts: list[str] = []
        bad: dict[int, BadRow] = {}
        for place, line in enumerate(records, number):
            try:
                texts.append(line.decode("utf-8"))
                numbers.append(place)
            except UnicodeDecodeError as error:
                bad[place] = BadRow(f"not UTF-8 text ({error.reason} at byte {error.start})", shorten(line))
        values = pa.array(texts, pa.string())
        return Chunk(numbers, dict.fromkeys(columns, values), bad)
