"""The parts of a job as one file, where one file was asked for.

Lines are copied as they are, tables batch by batch; memory does not grow with the parts.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa

from forwardpass.jobs.formats import create_format, create_writer
from forwardpass.jobs.job import Layout
from forwardpass.jobs.part import digest_of
from forwardpass.jobs.storage import Storage

LINES = ("csv", "tsv", "jsonl", "ndjson")
ROWS = 4096  # copied at once


def merge(storage: Storage, layout: Layout, parts: Sequence[str], schema: pa.Schema) -> tuple[str, int]:
    """Publish the output: the rows of all parts, in order. Its SHA-256 and size."""
    local = storage.temporary(layout.output)
    try:
        with local.open("wb") as file:
            if layout.format in LINES:
                _append_lines(storage, layout, parts, schema, file)
            else:
                _append_batches(storage, layout, parts, schema, file)
        digest, size = digest_of(local), local.stat().st_size
        storage.publish(local, layout.output)
        return digest, size
    finally:
        local.unlink(missing_ok=True)


def _append_lines(storage: Storage, layout: Layout, parts: Sequence[str], schema: pa.Schema, file: BinaryIO) -> None:
    empty = io.BytesIO()
    with create_writer(layout.format, empty, schema):
        pass
    header = empty.getvalue()
    file.write(header)
    for name in parts:
        with storage.open(name) as part:
            part.seek(len(header))
            shutil.copyfileobj(part, file, 1 << 20)


def _append_batches(storage: Storage, layout: Layout, parts: Sequence[str], schema: pa.Schema, file: BinaryIO) -> None:
    with create_writer(layout.format, file, schema) as writer:
        for name in parts:
            entry = storage.find(name)
            assert entry is not None, "a part that is done is there"
            reader = create_format([name], layout.format)
            for piece in reader.scan(storage, entry, 1 << 40):
                for chunk in reader.read(storage, piece, schema, schema.names, ROWS):
                    writer.write(pa.RecordBatch.from_pydict(chunk.columns, schema))
