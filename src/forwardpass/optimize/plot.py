"""Draws candidates as SVG: how much accuracy each gives up against how much faster (or smaller) it is.

In flows a search, out flows one self-contained picture that follows the reader's light or dark mode. Each candidate
has the number that it has in the report's table. Judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from forwardpass.optimize.results import WORDS, Entry
from forwardpass.optimize.search import Search

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1000, 480, 92, 28, 40, 68
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_FINE = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 1.8, 2)
_CLEAR = 4.0  # allowances below the parent at which the picture ends: worse ones stand at its edge
_LABEL = 17  # pixels that numbers stand apart
STYLE = """
svg.plot{display:block;width:100%;height:auto;font:13px system-ui,-apple-system,"Segoe UI",sans-serif}
.plot text{fill:var(--ink)}.plot .muted{fill:var(--muted)}.plot .grid{stroke:var(--line)}
.plot .zero{stroke:var(--muted);stroke-width:1.5}.plot .limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:6 5}
.plot .limit-word{fill:var(--bad)}.plot .bar{stroke-width:2;fill:none}.plot .num{font-weight:600;font-size:12px}
.plot .forbidden{fill:var(--bad);opacity:.06}
.plot .good{--dot:var(--ok)}.plot .lost{--dot:var(--bad)}.plot .slow{--dot:var(--muted)}
.plot .bar{stroke:var(--dot)}.plot circle{fill:var(--dot)}.plot .ring{fill:none;stroke:var(--ok);stroke-width:2}
"""


@dataclass(frozen=True)
class _Axis:
    """From a value to a pixel, in a straight line or by its logarithm."""

    start: float
    end: float
    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, self._inside(value)))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def _inside(self, value: float) -> float:
        return min(max(value, self.low), self.high)


def svg(search: Search) -> str:
    """The picture. Candidates that could not be measured are not in it."""
    shown = [(number, entry) for number, entry in enumerate(search.entries, 1) if entry.gains and entry.quality]
    x, y = _gain_axis(search, [entry for _, entry in shown]), _drop_axis(search, [entry for _, entry in shown])
    parts = [
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(search.metric)} against {WORDS[search.objective]}">',
        *_frame(search, x, y),
        *(_mark(search, entry, x, y) for _, entry in shown),
        *_numbers(search, shown, x, y),
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(search: Search, x: _Axis, y: _Axis) -> list[str]:
    limit, right, bottom = y(-search.max_drop), WIDTH - RIGHT, HEIGHT - BOTTOM
    words = f"times better than the parent in {WORDS[search.objective]}"
    parts = [f'<path class="forbidden" d="M{LEFT} {limit:.1f}H{right}V{bottom}H{LEFT}Z"/>']
    for value in _steps(y.low, y.high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{right}"/>')
        parts.append(_text(LEFT - 10, y(value) + 4, _signed(100 * value), "muted", "end"))
    fine = x.high / x.low < 3
    for factor in [one for one in (_FINE if fine else _FACTORS) if x.low <= one <= x.high]:
        parts.append(f'<path class="grid" d="M{x(factor):.1f} {TOP}V{bottom}"/>')
        parts.append(_text(x(factor), bottom + 20, f"{factor:g}\u00d7", "muted", "middle"))
    unit = "% of the parent's error" if search.gate.metric.relative else "points"
    return [
        *parts,
        f'<path class="zero" d="M{LEFT} {y(0):.1f}H{right}M{x(1):.1f} {TOP}V{bottom}"/>',
        f'<path class="limit" d="M{LEFT} {limit:.1f}H{right}"/>',
        _text(right - 6, limit + 16, "more is lost than allowed below this line", "limit-word", "end"),
        _text(LEFT + 6, TOP - 14, f"{search.metric}: difference to the parent, in {unit}, 95 % interval", "muted"),
        _text((LEFT + right) / 2, bottom + 48, words, "muted", "middle"),
    ]  # fmt: skip


def _mark(search: Search, entry: Entry, x: _Axis, y: _Axis) -> str:
    at, height, low, high = _place(search, entry, x, y)
    assert entry.gains is not None
    gain = entry.gains[search.objective]
    ring = f'<circle class="ring" cx="{at:.1f}" cy="{height:.1f}" r="10"/>' if entry.name == search.winner else ""
    return (
        f'<g class="{_kind(search, entry)}"><title>{escape(entry.title)}: {escape(entry.reason)}</title>'
        f'<path class="bar" d="M{x(gain.low):.1f} {height:.1f}H{x(gain.high):.1f}M{at:.1f} {low:.1f}V{high:.1f}"/>'
        f'<circle cx="{at:.1f}" cy="{height:.1f}" r="5"/>{ring}</g>'
    )


def _place(search: Search, entry: Entry, x: _Axis, y: _Axis) -> tuple[float, float, float, float]:
    """Pixels: x, y, and both ends of the interval."""
    assert entry.gains is not None
    assert entry.quality is not None
    drop = entry.quality.drop
    worst = -y.low
    value, low, high = (worst if end is None else end for end in (drop.value, drop.low, drop.high))
    return x(entry.gains[search.objective].median), y(-value), y(-low), y(-high)


def _numbers(search: Search, shown: Sequence[tuple[int, Entry]], x: _Axis, y: _Axis) -> list[str]:
    """The numbers beside the marks, moved up where they would cover another."""
    taken: list[tuple[float, float]] = []
    parts = []
    for number, entry in shown:
        at, height, _, _ = _place(search, entry, x, y)
        at, height = at + 12, height - 9
        while any(abs(at - left) < _LABEL and abs(height - top) < _LABEL - 3 for left, top in taken):
            height -= _LABEL - 3
        taken.append((at, height))
        parts.append(_text(at, height, str(number), "num"))
    return parts


def _kind(search: Search, entry: Entry) -> str:
    assert entry.quality is not None
    if entry.passed:
        return "good"
    return "lost" if search.gate.quality(entry.quality.drop) else "slow"


def _gain_axis(search: Search, entries: Sequence[Entry]) -> _Axis:
    found = [entry.gains[search.objective] for entry in entries if entry.gains]
    ends = [end for gain in found for end in (gain.low, gain.high)]
    low, high = min([1.0, *(end for end in ends if end > 0)]), max([1.0, *ends])
    return _Axis(LEFT, WIDTH - RIGHT, low / 1.25, high * 1.25, log=True)


def _drop_axis(search: Search, entries: Sequence[Entry]) -> _Axis:
    allowed = search.max_drop
    drops = [entry.quality.drop for entry in entries if entry.quality]
    lows = [-drop.high for drop in drops if drop.high is not None]
    highs = [-drop.low for drop in drops if drop.low is not None]
    low = max(min([-1.6 * allowed, *lows]), -_CLEAR * allowed)
    high = min(max([0.8 * allowed, *highs]), _CLEAR * allowed)
    return _Axis(HEIGHT - BOTTOM, TOP, low - 0.3 * allowed, high + 0.3 * allowed)


def _steps(low: float, high: float) -> list[float]:
    """Round values between, four to nine of them."""
    size = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = max(size * factor for factor in (1, 2, 5) if size * factor <= (high - low) / 4)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:+.4g}".replace("-", "\u2212")


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
