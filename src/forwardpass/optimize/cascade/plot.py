"""Draws what asking buys: accuracy against the share of rows escalated, with its 95 % band, as SVG.

In flows a calibration, out flows one self-contained picture that follows the reader's light or dark mode. Judges
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.cascade.results import Calibration

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1000, 460, 84, 28, 44, 66
COLOURS = """
{--paper:#fbfaf7;--ink:#1d1c1a;--muted:#66635c;--line:#e2dfd7;--ok:#0d6b64;--far:#b3401e}
@media (prefers-color-scheme:dark){%s{--paper:#17191a;--ink:#eceae5;--muted:#a09c94;--line:#313437;--ok:#5ecabd;
--far:#f0805e}}
"""
_STYLE = """
svg.curve{display:block;width:100%;height:auto;font:13px system-ui,-apple-system,"Segoe UI",sans-serif}
.curve .ground{fill:var(--paper)}.curve text{fill:var(--ink)}.curve .muted{fill:var(--muted)}
.curve .grid{stroke:var(--line)}.curve .band{fill:var(--ok);opacity:.14}
.curve .line{fill:none;stroke:var(--ok);stroke-width:2}
.curve .large,.curve .aim{stroke:var(--muted);stroke-width:1.5;stroke-dasharray:2 4}
.curve .aim{stroke:var(--far);stroke-dasharray:6 5}.curve .aim-word{fill:var(--far)}
.curve .chosen{paint-order:stroke;stroke:var(--paper);stroke-width:5px;stroke-linejoin:round}
.curve .bar{stroke:var(--ok);stroke-width:2}.curve circle{fill:var(--ok)}
"""


def svg(found: Calibration) -> str:
    """The picture."""
    measured = found.measured
    low, high = _range(found)
    parts = [
        f'<svg class="curve" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="accuracy against the share of rows escalated">',
        f"<style>svg.curve{COLOURS.strip() % 'svg.curve'}{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        *_grid(low, high),
        _text(LEFT, TOP - 18, f"accuracy of {found.small}, asking {found.large}, in %; 95 % intervals", "muted"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, "rows escalated, in %", "muted", "middle"),
    ]

    def y(accuracy: float) -> float:
        inside = min(max(accuracy, low), high)
        return HEIGHT - BOTTOM - (inside - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    ends = [(point.share, *_ends(point.accuracy)) for point in measured.curve]
    band = [(_x(share), y(top)) for share, _, _, top in ends] + [(_x(share), y(end)) for share, _, end, _ in ends[::-1]]
    value = measured.large_accuracy.value or 0.0
    share, accuracy = _ends(measured.share), _ends(measured.accuracy)
    at, height = _x(share[0]), y(accuracy[0])
    return "\n".join(
        [
            *parts,
            f'<path class="large" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>',
            _text(WIDTH - RIGHT - 4, y(value) - 7, f"{found.large} alone", "muted", "end"),
            *_aim(found, y(_target(found))),
            f'<path class="band" d="{_path(band)}Z"/>',
            f'<path class="line" d="{_path((_x(share), y(value)) for share, value, _, _ in ends)}"/>',
            f'<path class="bar" d="M{_x(share[1]):.1f} {height:.1f}H{_x(share[2]):.1f}'
            f'M{at:.1f} {y(accuracy[1]):.1f}V{y(accuracy[2]):.1f}"/>',
            f'<circle cx="{at:.1f}" cy="{height:.1f}" r="6"><title>chosen</title></circle>',
            _text(at + 12, height + 20, f"chosen: {100 * accuracy[0]:.2f} % at {100 * share[0]:.1f} %", "chosen"),
            "</svg>",
        ]
    )


def _aim(found: Calibration, target: float) -> list[str]:
    """The line that was asked for: a share to stay below, or an accuracy to reach."""
    if found.aim.escalated is not None:
        at = _x(found.aim.escalated)
        line = f"M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"
        word = _text(at + 6, HEIGHT - BOTTOM - 8, f"at most {100 * found.aim.escalated:.4g} %", "aim-word")
    else:
        line = f"M{LEFT} {target:.1f}H{WIDTH - RIGHT}"
        word = _text(LEFT + 8, target - 7, found.aim.words(found.large), "aim-word")
    return [f'<path class="aim" d="{line}"/>', word]


def _target(found: Calibration) -> float:
    if found.aim.accuracy is not None:
        return found.aim.accuracy
    return (found.measured.large_accuracy.value or 0.0) - (found.aim.below or 0.0)


def _grid(low: float, high: float) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for tenth in range(11):
        parts.append(f'<path class="grid" d="M{_x(tenth / 10):.1f} {TOP}V{bottom}"/>')
        parts.append(_text(_x(tenth / 10), bottom + 20, str(10 * tenth), "muted", "middle"))
    for value in _steps(low, high):
        at = bottom - (value - low) / (high - low) * (bottom - TOP)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 10, at + 4, f"{100 * value:.4g}", "muted", "end"))
    return parts


def _steps(low: float, high: float) -> list[float]:
    """Round values between, four to nine of them."""
    size = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = max(size * factor for factor in (1, 2, 5) if size * factor <= (high - low) / 4)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _range(found: Calibration) -> tuple[float, float]:
    """The accuracies that the picture shows: all intervals, with some room."""
    measured = found.measured
    ends = [end for point in measured.curve for end in _ends(point.accuracy)]
    ends += [*_ends(measured.accuracy), measured.large_accuracy.value or 0.0, _target(found)]
    low, high = max(0.0, min(ends)), min(1.0, max(ends))
    room = max(0.05 * (high - low), 0.002)
    return low - room, high + room


def _ends(interval: Interval) -> tuple[float, float, float]:
    """Value, low and high."""
    value, low, high = interval.value or 0.0, interval.low, interval.high
    return value, value if low is None else low, value if high is None else high


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
