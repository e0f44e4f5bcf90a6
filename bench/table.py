"""Writes what was measured as Markdown: the facts of the machine, measures against targets, details.

``docs/benchmarks.md`` keeps its own words; only what follows its marker is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.results import Results, Summary

MARKER = "<!-- results: written by `make bench` -->"


@dataclass(frozen=True)
class Row:
    """One measure against its target. ``value`` is ``None`` where it could not be measured; ``note`` says why."""

    measure: str
    value: Summary | None
    unit: str  # what the value counts: "x (b)", "s", "MB"
    target: float
    at_least: bool
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "**not measured**"
        passed = self.value.median >= self.target if self.at_least else self.value.median <= self.target
        return "pass" if passed else "**missed**"


def measures(rows: Sequence[Row]) -> str:
    lines = ["| measure | target | measured (lowest to highest) | | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        target = f"{'at least' if row.at_least else 'at most'} {row.target:g} {row.unit}"
        lines.append(f"| {row.measure} | {target} | {_value(row)} | {row.verdict} | {_cell(row.note)} |")
    return "\n".join(lines)


def details(results: Results) -> str:
    """Every measurement: rate, latency, CPU of the server per request, how busy server and client were."""
    lines = [
        "| | per second | spread | p50 ms | p99 ms | server CPU per request | server cores busy | client cores busy |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in results.loads:
        rate, p50, p99 = (results.summary(name, fact) for fact in ("rate", "p50", "p99"))
        cpu = results.summary(name, "cpu_per_request").median * 1e6
        server, client = (
            results.ratio((name, fact), (name, "seconds")).median for fact in ("server_cpu", "client_cpu")
        )
        times = f"{1e3 * p50.median:.3g} | {1e3 * p99.median:.3g}" if p50.median else "| "
        load = f"{client:.2f}" if client else ""
        lines.append(
            f"| {name} | {rate.median:,.{0 if rate.median > 100 else 1}f} | {rate.spread:.0%} | {times} "
            f"| {cpu:,.3g} µs | {server:.2f} | {load} |"
        )
    lines += [f"| {name} | {_cell(reason)} | | | | | | |" for name, reason in results.failed.items()]
    return "\n".join(lines)


def render(facts: Mapping[str, str], rows: Sequence[Row], results: Results, notes: Sequence[str]) -> str:
    head = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    parts = ["## The machine", head, "## Measures", measures(rows), "## Every measurement", details(results)]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes)]).strip() + "\n"


def write(file: Path, text: str, marker: str = MARKER) -> None:
    """Replace what follows the marker in ``file``."""
    own, found, _ = file.read_text(encoding="utf-8").partition(marker)
    if not found:
        raise ValueError(f"{file} has no line {marker!r}; put it where the results belong")
    file.write_text(f"{own}{marker}\n\n{text}", encoding="utf-8")


def write_section(file: Path, begin: str, end: str, text: str) -> None:
    """Replace what lies between two markers; put them before ``MARKER`` where there are none."""
    page = file.read_text(encoding="utf-8")
    section = f"{begin}\n\n{text}\n{end}"
    if begin in page:
        before, _, rest = page.partition(begin)
        page = before + section + rest.partition(end)[2]
    elif MARKER in page:
        page = page.replace(MARKER, f"{section}\n\n{MARKER}", 1)
    else:
        raise ValueError(f"{file} has neither {begin!r} nor {MARKER!r}; put the first where the results belong")
    file.write_text(page, encoding="utf-8")


def _value(row: Row) -> str:
    if row.value is None:
        return ""
    low, median, high = (f"{number:.3g}" for number in (row.value.low, row.value.median, row.value.high))
    return f"{median} ({low} to {high})"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
