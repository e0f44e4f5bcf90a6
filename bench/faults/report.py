"""Writes figures: as lines for a terminal, and as the tables of ``docs/faults.md`` below its marker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import table
from bench.faults.figure import Figure

MARKER = "<!-- figures: written by `make soak` -->"


def lines(name: str, figures: Sequence[Figure]) -> str:
    """For a terminal."""
    return "\n".join(f"{name}: {item.verdict:6}  {item.what}: {item.shown} ({item.target})  {item.note}".rstrip()
                     for item in figures)  # fmt: skip


def tables(figures: Mapping[str, Sequence[Figure]], took: Mapping[str, float]) -> str:
    """As Markdown, one table for each fault."""
    busy = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    head = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load average {busy} at the end."
    parts = [head]
    for name, items in figures.items():
        rows = [
            f"| {item.what} | {item.target} | {item.shown} | {_verdict(item)} | {_cell(item.note)} |" for item in items
        ]
        table = ["| figure | bound | measured | | |", "| --- | --- | --- | --- | --- |", *rows]
        parts.append("\n".join([f"### {name}", "", f"Took {took[name]:.0f} s.", "", *table]))
    return "\n\n".join(parts) + "\n"


def write(file: Path, text: str) -> None:
    """Replace what follows the marker in ``file``."""
    table.write(file, text, MARKER)


def _verdict(figure: Figure) -> str:
    return figure.verdict if figure.passed else f"**{figure.verdict}**"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
