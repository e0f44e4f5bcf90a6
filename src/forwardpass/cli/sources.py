"""The rows that ``predict`` is given, from files, standard input and flags.

In flow names and texts, out flow sources: rows as V1 instances, or a table whose values are still
text. What a file holds is told by its suffix or, where that says nothing, by its first bytes.
Knows no model; whether the rows suit it is found out when it is asked.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from forwardpass.errors import InvalidInput, NotFound


class Format(StrEnum):
    """What the bytes of a source are."""

    JSON = "json"
    CSV = "csv"
    TEXT = "text"
    IMAGE = "image"


_FORMATS = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"), Format.IMAGE),
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".txt": Format.TEXT,
}
_IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Table:
    """Lines of text values, with the names of the inputs above them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Source:
    """Some rows and where they come from. A list holds V1 instances; an image is its bytes."""

    name: str
    rows: list[Any] | Table


def read_source(name: str, given: Format | None = None) -> Source:
    """A file's rows, or standard input's where the name is ``-``.

    Raises ``NotFound``, or ``InvalidInput`` where the content is not what it should be.
    """
    data = _read(name)
    found = given or _FORMATS.get(Path(name).suffix.lower()) or _sniff(data)
    if found is Format.IMAGE:
        return Source(name, [data])
    text = _utf8(data, name)
    if found is Format.JSON:
        return Source(name, read_body(text, name))
    if found is Format.CSV:
        return Source(name, _read_table(text, name))
    return Source(name, [line for line in text.splitlines() if line.strip()])


def read_body(text: str, name: str) -> list[Any]:
    """The rows of ``{"instances": [...]}``, of a bare list, or of the one object that is a row."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{name}: not valid JSON: {error}") from None
    rows = body.get("instances", [body]) if isinstance(body, dict) else body
    if not isinstance(rows, list):
        raise InvalidInput(f'{name}: expected {{"instances": [one entry per row]}} or a list with one entry per row')
    return rows


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise NotFound(f"{name}: cannot be read: {error.strerror}") from None


def _sniff(data: bytes) -> Format:
    if data.startswith(_IMAGE_MAGIC):
        return Format.IMAGE
    return Format.JSON if data.lstrip()[:1] in (b"{", b"[") else Format.TEXT


def _utf8(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); if it is an image, say --format image"
        ) from None


def _read_table(text: str, name: str) -> Table:
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise InvalidInput(f"{name}: not valid CSV: {error}") from None
    if not lines:
        raise InvalidInput(f"{name}: is empty; its first line must name the inputs")
    return Table(lines[0], lines[1:])
