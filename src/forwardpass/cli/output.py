"""What the commands print: tables and titles for people, JSON lines for programs.

Plain aligned text; colours only on a terminal, and not where ``NO_COLOR`` is set. Knows no models.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Any

import typer

WIDEST = 60  # characters of one cell
MOST_ITEMS = 5  # of a list in a cell


def say(text: str = "") -> None:
    """Print, without colours where nobody wants them."""
    typer.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def say_json(value: Any) -> None:
    """One line of JSON. Bytes become ``{"b64": …}``, NaN becomes ``null``."""
    import orjson

    line = orjson.dumps(value, default=encode_bytes, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    typer.echo(line.decode())


def title(text: str) -> str:
    return typer.style(text, bold=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what is in them, the last one as it is."""
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join([title(lines[0].rstrip()), *(line.rstrip() for line in lines[1:])])


def cell(value: Any) -> str:
    """A value in at most one line of a table: numbers to four digits, long lists by their first items."""
    text = _cell(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        more = [f"… ({len(value)})"] if len(value) > MOST_ITEMS else []
        return f"[{', '.join([*map(_cell, value[:MOST_ITEMS]), *more])}]"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(item)}" for key, item in value.items())
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return " ".join(str(value).split())


def encode_bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return str(value)
