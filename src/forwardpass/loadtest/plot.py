"""Draws results as SVG: latency by percentile for each run, and latency against throughput.

In flow named results, out flows one self-contained picture (or a page around it) that follows the
reader's light or dark mode. No script, no font and no address of elsewhere. Measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from forwardpass.loadtest.result import Result

Runs = Sequence[tuple[str, Result]]
Point = tuple[float, float]
WIDTH, PANEL, LEFT, TOP, GAP, MARGIN = 1080, 400, 76, 84, 112, 24
LEGEND = 24  # height of one line of it
COLOURS = 8
_NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
_STYLE = """
svg{--paper:#fbfaf7;--ink:#1d1c1a;--muted:#66635c;--line:#e2dfd7;--c0:#0d6b64;--c1:#b3541e;--c2:#4b5bb5;--c3:#9a2f6b;
--c4:#6b7d1a;--c5:#1f86b0;--c6:#7a5a3c;--c7:#7d7d86;background:var(--paper);
font:13px system-ui,-apple-system,"Segoe UI",sans-serif}
@media (prefers-color-scheme:dark){svg{--paper:#17191a;--ink:#eceae5;--muted:#a09c94;--line:#313437;--c0:#5ecabd;
--c1:#f0955e;--c2:#98a6f5;--c3:#ec86bd;--c4:#bccb68;--c5:#6fc3e8;--c6:#cfa983;--c7:#a9a9b3}}
text{fill:var(--ink)}.muted{fill:var(--muted)}.grid{stroke:var(--line);stroke-width:1}
.head{font-size:17px;font-weight:600}.sub{font-weight:600}
.run{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.open{stroke-dasharray:6 5}
"""


@dataclass(frozen=True)
class Axis:
    """From a value to a place between ``start`` and ``end`` pixels; ``ticks`` are (value, words)."""

    start: float
    end: float
    low: float
    high: float
    scale: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]

    def __call__(self, value: float) -> float:
        low, high = self.scale(self.low), self.scale(self.high)
        share = (self.scale(min(max(value, self.low), self.high)) - low) / ((high - low) or 1.0)
        return self.start + share * (self.end - self.start)


def html(title: str, runs: Runs) -> str:
    """A page that shows the picture."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>:root{{color-scheme:light dark}}"
        "body{margin:0;background:light-dark(#fbfaf7,#17191a)}svg{display:block;max-width:100%;height:auto;"
        f"margin:0 auto}}</style>{svg(title, runs)}</html>\n"
    )


def svg(title: str, runs: Runs) -> str:
    """The picture. Runs without a good answer are named, and have no curve."""
    lines = math.ceil(len(runs) / 3)
    legend = TOP + PANEL + 74
    height = legend + LEGEND * lines + MARGIN
    across = (WIDTH - LEFT - GAP - MARGIN) // 2
    seconds = _seconds(runs)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title, quote=True)}"><style>{_STYLE}</style>',
        _text(LEFT, 34, title, "head"),
        *_by_percentile(runs, seconds, LEFT, LEFT + across),
        *_by_throughput(runs, seconds, LEFT + across + GAP, WIDTH - MARGIN),
        *(_legend(index, name, run, legend) for index, (name, run) in enumerate(runs)),
        "</svg>",
    ]
    return "\n".join(parts)


# Panels


def _by_percentile(runs: Runs, seconds: tuple[float, float], left: float, right: float) -> list[str]:
    ticks = [(percent, f"{percent:g} %" if percent else "") for percent in _NINES]
    x = Axis(left, right, 0.0, 99.99, _nines, ticks)
    y = _latency_axis(seconds)
    parts = [*_frame(x, y, "Latency that a share of the answers did not exceed", "share of answers")]
    for index, (_, run) in enumerate(runs):
        end = 100 - 50 / max(run.latency.count, 1)  # a hundred answers say nothing of 99.9 %
        curve = [(x(min(percent, end)), y(value)) for percent, value in run.latency.curve()]
        parts.append(_line(index, run, curve))
    return parts


def _by_throughput(runs: Runs, seconds: tuple[float, float], left: float, right: float) -> list[str]:
    """A dot at the median and a stroke up to the 99th percentile; closed loops of a door are joined."""
    most = max((run.rate for _, run in runs), default=1.0) or 1.0
    step = _round_step(most)
    ticks = [(step * count, f"{step * count:,g}") for count in range(math.floor(most * 1.08 / step) + 1)]
    x = Axis(left, right, 0.0, max(most * 1.08, ticks[-1][0]), float, ticks)
    y = _latency_axis(seconds)
    parts = [*_frame(x, y, "Latency against throughput: median (dot) to p99", "good answers per second")]
    for door in dict.fromkeys(run.door for _, run in runs):
        closed = [run for _, run in runs if run.door == door and run.planned_rate is None and run.ok]
        points = [(x(run.rate), y(run.latency.percentile(50))) for run in closed]
        parts.append(f'<polyline class="run" style="stroke:var(--line)" points="{_points(points)}"/>')
    for index, (_, run) in enumerate(runs):
        if run.ok:
            at, median, high = x(run.rate), y(run.latency.percentile(50)), y(run.latency.percentile(99))
            parts.append(_line(index, run, [(at, median), (at, high)]))
            parts.append(f'<circle cx="{at:.1f}" cy="{median:.1f}" r="5" style="fill:{_colour(index)}"/>')
    return parts


def _frame(x: Axis, y: Axis, title: str, unit: str) -> list[str]:
    """Grid, numbers and words of one panel."""
    parts = [_text(x.start, TOP - 18, title, "sub")]
    for value, words in y.ticks:
        parts.append(f'<path class="grid" d="M{x.start:.1f} {y(value):.1f}H{x.end:.1f}"/>')
        parts.append(_text(x.start - 8, y(value) + 4, words, "muted", "end"))
    for value, words in x.ticks:
        parts.append(f'<path class="grid" d="M{x(value):.1f} {y.end:.1f}V{y.start:.1f}"/>')
        parts.append(_text(x(value), y.start + 20, words, "muted", "middle"))
    return [*parts, _text((x.start + x.end) / 2, y.start + 44, unit, "muted", "middle")]


def _legend(index: int, name: str, run: Result, top: float) -> str:
    x = LEFT + (index % 3) * ((WIDTH - LEFT - MARGIN) // 3)
    y = top + LEGEND * (index // 3)
    words = name if run.ok else f"{name}: no good answer"
    return _line(index, run, [(x, y), (x + 30, y)]) + _text(x + 40, y + 4, words, "")


def _line(index: int, run: Result, points: Sequence[Point]) -> str:
    kind = "run" if run.planned_rate is None else "run open"
    return f'<polyline class="{kind}" style="stroke:{_colour(index)}" points="{_points(points)}"/>'


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _colour(index: int) -> str:
    return f"var(--c{index % COLOURS})"


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


# Scales


def _nines(percent: float) -> float:
    """Each nine as wide as the one before: 0, 90, 99, 99.9 stand at equal distances."""
    return -math.log10(1 - min(percent, 99.999) / 100)


def _seconds(runs: Runs) -> tuple[float, float]:
    """The least and the greatest latency of all, as round numbers a little apart from them."""
    lows = [run.latency.min for _, run in runs if run.ok]
    highs = [run.latency.max for _, run in runs if run.ok]
    low, high = (min(lows), max(highs)) if lows else (1e-3, 1e-2)
    return max(low, 1e-9) * 0.8, max(high * 1.25, low * 10)


def _latency_axis(seconds: tuple[float, float]) -> Axis:
    low, high = seconds
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = (1, 2, 5) if len(decades) <= 5 else (1,)
    ticks = [value for decade in decades for mark in marks if low <= (value := mark * 10.0**decade) <= high]
    return Axis(TOP + PANEL, TOP, low, high, math.log10, [(value, _duration(value)) for value in ticks])


def _duration(seconds: float) -> str:
    if seconds < 0.9e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9 else f"{seconds:.3g} s"


def _round_step(most: float) -> float:
    """A round distance that divides ``most`` into four to eight."""
    size = 10.0 ** math.floor(math.log10(most / 4))
    return max(size * factor for factor in (1, 2, 5) if size * factor <= most / 4)
