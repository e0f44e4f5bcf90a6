"""What ``bench`` says when it has measured: a table, what the server did, and what that means.

In flow measurements and what the server tells of its batches and its cost, out flows text, or
plain facts for a program. Measures nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwardpass.cli.bench_server import Batches
from forwardpass.cli.output import table, title
from forwardpass.loadtest import Result

HEADER = ("door", "load", "requests/s", "p50", "p90", "p99", "max", "refused", "errors", "rows/batch")
WORTH = 1.1  # times the rows per second of single rows, from which batching is said to pay
SHOWN = 8  # points of a cost curve, and sizes of batches


@dataclass(frozen=True)
class Measured:
    """One line of the table. ``share`` is of the capacity, where the rate was made from it."""

    result: Result
    batches: Batches
    share: float | None = None

    @property
    def load(self) -> str:
        if self.result.planned_rate is None:
            count = self.result.connections
            return f"{count} connection{'s' * (count != 1)}"
        share = f" ({100 * self.share:g} %)" if self.share is not None else ""
        return f"{_number(self.result.planned_rate)}/s{share}"

    def summary(self) -> dict[str, Any]:
        batches = {"sizes": dict(sorted(self.batches.sizes.items())), "reasons": dict(self.batches.reasons)}
        return {"load": self.load, **self.result.summary(), "batches": batches}


def report(measured: Sequence[Measured], cost: Mapping[str, Any] | None) -> str:
    """All of it, for people."""
    parts = ["", _table(measured)]
    together = _together(measured)
    about = [*_batches(together), *_cost(cost)]
    if about:
        parts += ["", *about]
    parts += [f"• {line}" for line in (*_meaning(measured, cost), *_warnings(measured))]
    return "\n".join(parts)


def _table(measured: Sequence[Measured]) -> str:
    rows = [HEADER, *(_row(item) for item in measured)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(HEADER))]
    aligned = [
        [cell if index < 2 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return table(aligned[0], aligned[1:])


def _row(item: Measured) -> tuple[str, ...]:
    result, mean = item.result, item.batches.mean
    times = [milliseconds(result.latency.percentile(percent)) for percent in (50, 90, 99)]
    return (
        result.door,
        item.load,
        _number(result.rate),
        *times,
        milliseconds(result.latency.max),
        str(result.refused.count),
        str(result.failed),
        "" if mean is None else f"{mean:.1f}",
    )


def _together(measured: Sequence[Measured]) -> Batches:
    whole = Batches()
    for item in measured:
        whole.sizes.update(item.batches.sizes)
        whole.reasons.update(item.batches.reasons)
    return whole


def _batches(batches: Batches) -> list[str]:
    if not batches.sizes:
        return []
    grouped: Counter[tuple[int, int]] = Counter()
    for size, count in batches.sizes.items():
        low = 1 << (max(size, 1).bit_length() - 1)
        grouped[low, 2 * low - 1] += count
    total = batches.sizes.total()
    sizes = [f"{_span(*key)} {_percent(count / total)}" for key, count in sorted(grouped.items())]
    reasons = [f"{name} {_percent(count / total)}" for name, count in batches.reasons.most_common() if count]
    return [_line("batch rows", sizes), *([_line("left because", reasons)] if reasons else [])]


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _cost(cost: Mapping[str, Any] | None) -> list[str]:
    """What the server has learnt that a batch takes: as fitted, and as measured by size."""
    curve = cost.get("curve") if cost else None
    if not cost or not curve:
        return []
    padded = f" + {_time(cost['per_padded'])} per row and unit of length" if cost["per_padded"] else ""
    fitted = f"{_time(cost['start'])} + {_time(cost['per_row'])} per row{padded}"
    most = sorted(curve, key=lambda item: -item.get("batches", 0))[:SHOWN]
    points = sorted(most, key=lambda item: (item["rows"], item["length"] or 0))
    measured = [f"{_size(item['rows'], item['length'])} {milliseconds(item['seconds'])}" for item in points]
    return [_line("batch takes", [fitted]), _line("as measured", measured)]


def _size(rows: float, length: float | None) -> str:
    return f"{rows:g} row{'s' * (rows != 1)}" + (f" of length {length:g}" if length else "")


def _meaning(measured: Sequence[Measured], cost: Mapping[str, Any] | None) -> list[str]:
    """One line that says what batching does for this model: as the server has learnt, else as measured."""
    if cost and cost.get("curve") and cost.get("best_rows"):
        return [_by_cost(cost)]
    closed = [item for item in measured if item.result.planned_rate is None and item.result.rate]
    fewest, most = (pick(closed, key=_connections, default=None) for pick in (min, max))
    if fewest is None or most is None or fewest.result.connections == most.result.connections:
        return []
    times = most.result.rate / fewest.result.rate
    return [f"{most.load} get {times:.1f} times the requests per second of {fewest.load}"]


def _by_cost(cost: Mapping[str, Any]) -> str:
    """The fitted cost of the server's best batch against that of single rows, at the lengths that came."""
    curve = cost["curve"]
    batches = [item.get("batches", 1) for item in curve]
    length = sum((item["length"] or 0) * count for item, count in zip(curve, batches, strict=True)) / sum(batches)
    row = cost["per_row"] + cost["per_padded"] * length
    rows = cost["best_rows"]
    alone, together = rows * (cost["start"] + row), cost["start"] + rows * row
    times = alone / together if together else 1.0
    if times < WORTH:
        return "batching gains nothing here: rows that run together take as long as one after the other"
    return f"batches of {rows} rows run {times:.1f} times as many rows per second as single ones"


def _connections(item: Measured) -> int:
    return item.result.connections


def _warnings(measured: Sequence[Measured]) -> list[str]:
    lines = []
    for item in measured:
        result, name = item.result, f"{item.result.door}, {item.load}"
        if not result.punctual:
            late = milliseconds(result.late.percentile(99))
            lines.append(f"{name}: the client could not keep the rate: 1 % left {late} late or later, which counts")
        if result.failed:
            kinds = ", ".join(f"{kind} {count}" for kind, count in result.errors.most_common())
            lines.append(f"{name}: {result.failed} failed ({kinds}); the first: {result.first_error}")
    return lines


def _line(name: str, parts: Sequence[str]) -> str:
    return f"{title(name.ljust(12))}  {', '.join(parts)}"


def _time(seconds: float) -> str:
    """Also of what is far below a millisecond."""
    return f"{seconds * 1e6:.3g} µs" if seconds < 1e-4 else milliseconds(seconds)


def _percent(share: float) -> str:
    if 0.995 <= share < 1:
        return ">99 %"
    return "<1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def milliseconds(seconds: float) -> str:
    """Three digits: ``0.123 ms``, ``12.3 ms``, ``1,234 ms``."""
    value = seconds * 1e3
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} ms"
