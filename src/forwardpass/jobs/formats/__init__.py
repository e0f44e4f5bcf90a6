"""What data sets are written in. In flow files, out flow chunks of columns; and the other way round.

``create_format`` and ``create_writer`` load the module of a format only where it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa

from forwardpass.errors import InvalidInput, nearest
from forwardpass.jobs.formats.base import BadRow, Chunk, Format, Piece, Writer

__all__ = [
    "BadRow",
    "Chunk",
    "Format",
    "Piece",
    "Writer",
    "create_format",
    "create_writer",
    "is_one_file",
    "output_format",
]

_SUFFIXES = {
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson"),
    "text": (".txt",),
    "images": (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
}
_CLASSES = {
    "parquet": "Parquet",
    "arrow": "Arrow",
    "csv": "Csv",
    "jsonl": "JsonLines",
    "text": "Text",
    "images": "Images",
}
_WRITERS = {"parquet": "ParquetWriter", "arrow": "ArrowWriter", "csv": "CsvWriter", "jsonl": "JsonLinesWriter"}
_COMPRESSIBLE = ("csv", "jsonl", "text")
_COMPRESSIONS = (".gz", ".zst")
_BY_SUFFIX = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes}


def create_format(names: Sequence[str], given: str | None = None) -> Format:
    """The format that files of these names are in, unless it is given.

    Raises ``InvalidInput`` where the names do not tell one and only one.
    """
    name = _told(names) if given is None else given
    if name not in _CLASSES:
        raise InvalidInput(f"--format: unknown format {name!r}.{nearest(name, _CLASSES)}")
    created: Format = getattr(_module(name), _CLASSES[name])()
    return created


def create_writer(format_name: str, file: BinaryIO, schema: pa.Schema) -> Writer:
    """A writer of ``format_name``, as ``output_format`` tells it."""
    created: Writer = getattr(_module(format_name), _WRITERS[format_name])(file, schema)
    return created


def is_one_file(name: str) -> bool:
    """Whether an output of this name is one file, and not a folder: it ends in letters after a dot, as files do.

    So ``out.csv`` is a file; ``out``, ``out.v2``, ``out.2026-11-22`` and whatever ends in ``/`` are folders.
    """
    return not name.endswith("/") and PurePosixPath(name).suffix[1:].isalpha()


def output_format(name: str) -> str:
    """The format that an output of this name is written in; Parquet for a folder whose name tells none.

    Raises ``InvalidInput`` where the name is that of a file of some other format.
    """
    suffix = PurePosixPath(name.rstrip("/")).suffix.lower()
    found = _BY_SUFFIX.get(suffix, "")
    if suffix == ".tsv":
        raise InvalidInput(f"{name}: cannot write '.tsv'; '.csv' is written with commas")
    if found in _WRITERS:
        return found
    if is_one_file(name):
        known = ", ".join(ending for kind in _WRITERS for ending in _SUFFIXES[kind] if ending != ".tsv")
        raise InvalidInput(
            f"{name}: cannot write {suffix!r}; end the name of a file in one of {known}, that of a folder in '/'"
        )
    return "parquet"


def _told(names: Sequence[str]) -> str:
    """The one format that all these names tell."""
    if not names:
        raise InvalidInput("no input files are given")
    first = _format_of(names[0])
    for name in names[1:]:
        if _format_of(name) != first:
            raise InvalidInput(
                f"{names[0]} is {first}, but {name} is {_format_of(name)}: name files of one format, "
                "by a pattern such as 'folder/*.csv'"
            )
    return first


def _format_of(name: str) -> str:
    path = PurePosixPath(name.lower())
    if path.suffix in _COMPRESSIONS and _BY_SUFFIX.get(path.with_suffix("").suffix) in _COMPRESSIBLE:
        path = path.with_suffix("")
    if path.suffix not in _BY_SUFFIX:
        raise InvalidInput(
            f"{name}: its name does not tell its format; let it end in one of {', '.join(_BY_SUFFIX)}, or say it to "
            f"`forwardpass run` by --format {'|'.join(_CLASSES)}"
        )
    return _BY_SUFFIX[path.suffix]


def _module(name: str) -> object:
    return importlib.import_module(f"forwardpass.jobs.formats.{name}")
