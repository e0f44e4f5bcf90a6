"""The report of a calibration: a page, a text in Markdown with a picture beside it, and the same facts as JSON.

All are written from one ``Calibration``. The page needs nothing but itself: no script, no font, no address of
elsewhere. Judges whether the aim was met, in words; knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import msgspec

from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.cascade import plot
from forwardpass.optimize.cascade.results import Calibration, Latency
from forwardpass.optimize.report import seconds

MISSING = "\u2013"
NAMES = ("report.html", "report.md", "report.svg", "report.json")
HEADER = ("", "small", "large", "cascade")
_STYLE = """
body{margin:0 auto;max-width:1060px;padding:32px 24px 64px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:24px;line-height:1.25;margin:0 0 4px}h2{font-size:17px;margin:36px 0 8px}p{margin:4px 0}
.muted{color:var(--muted)}.verdict{font-size:17px;margin:14px 0 22px;padding:12px 16px;border-left:4px solid var(--ok)}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 14px 6px 0;border-top:1px solid var(--line)}th{color:var(--muted);font-weight:500}
"""


def write(found: Calibration, folder: Path) -> list[Path]:
    """Write the page, the Markdown, the picture and the JSON into a folder, over what was there."""
    folder.mkdir(parents=True, exist_ok=True)
    page, text, picture, data = files = [folder / name for name in NAMES]
    page.write_text(html(found), encoding="utf-8")
    text.write_text(markdown(found, picture.name), encoding="utf-8")
    picture.write_text(plot.svg(found) + "\n", encoding="utf-8")
    data.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return files


def table(found: Calibration) -> list[list[str]]:
    """The rows under ``HEADER``, each figure with its interval."""
    one = found.measured
    rows = [["accuracy", percent(one.small_accuracy), percent(one.large_accuracy), percent(one.accuracy)]]
    rows.append(["rows escalated", "0 %", "100 %", percent(one.share, 1)])
    latencies = (one.small_latency, one.large_latency, one.latency)
    rows += [
        [f"latency, {name}", *(_duration(latency, name) for latency in latencies)] for name in ("p50", "p99", "mean")
    ]
    if found.price:
        whole = f"{1000 * found.price:.4g}"
        rows.append(["cost of 1,000 rows", "0", whole, _interval(found.cost, "{:.4g}".format)])
    rows.append(["calibration error", percent(one.error_before), MISSING, MISSING])
    return [*rows, [f"… at temperature {found.temperature:g}", percent(one.error_after), MISSING, MISSING]]


def verdict(found: Calibration) -> str:
    """What was chosen, what it gives, and whether that is what was asked for."""
    one = found.measured
    return (
        f"Below a confidence of {found.threshold:.4g} (temperature {found.temperature:g}) rows go to {found.large}: "
        f"{percent(one.share, 1)} of them. {percent(one.accuracy)} of answers are right, "
        f"{points(one.drop)} points fewer than {found.large} alone and {points(one.gain)} more than {found.small} "
        f"alone. Asked for was {found.aim.words(found.large)}: {met(found)}."
    )


def met(found: Calibration) -> str:
    """Whether the judging rows keep what was asked for: surely (by the whole interval), likely, or not."""
    aim, one = found.aim, found.measured
    if aim.escalated is not None:
        return _met(one.share, aim.escalated)
    if aim.accuracy is not None:
        return _met(_negative(one.accuracy), -aim.accuracy)
    return _met(one.drop, aim.below or 0.0)


def facts(found: Calibration) -> list[str]:
    """Which rows, which outputs, which machine."""
    unusable = f"; {found.unusable:,} could not be used" if found.unusable else ""
    chosen, one = found.chosen, found.measured
    return [
        f"Chosen on {chosen.rows:,} held-out rows ({100 * chosen.accuracy:.2f} % right, {100 * chosen.share:.1f} % "
        f"escalated there), measured on {one.rows:,} others{unusable}. Intervals are 95 %.",
        f"The answer is output {found.output!r} against {found.label!r}, the confidence output {found.confidence!r}. "
        f"The models answer {percent(one.disagreement, 1)} of rows differently.",
        f"Latency is of {one.timed:,} single rows, in turn by both models{_where(found)}. "
        f"Data {found.fingerprint[:12]}.",
    ]


def _where(found: Calibration) -> str:
    machine = f"on {found.machine.get('processor')}, {found.machine.get('cores')} cores"
    if found.elsewhere:
        return f", asked {machine}; {found.large} lies elsewhere, and the road there and back is in it"
    return f" in one process, {machine}; the road between them is not in it"


def markdown(found: Calibration, picture: str) -> str:
    """The report as text; ``picture`` is the address of the drawing."""
    lines = [f"# {_title(found)}", "", *(f"{line}  " for line in facts(found)), "", f"**{verdict(found)}**", ""]
    lines += [f"![Accuracy against the share of rows escalated]({picture})", ""]
    lines += [_md_row(HEADER), _md_row(["---"] * len(HEADER)), *map(_md_row, table(found))]
    lines += ["", "## By threshold", "", _md_row(_CURVE), _md_row(["---"] * len(_CURVE)), *map(_md_row, _points(found))]
    return "\n".join([*lines, "", "## Measured with", "", _versions(found)]) + "\n"


def html(found: Calibration) -> str:
    """The report as a page."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(_title(found))}</title><style>:root{{color-scheme:light dark}}"
        f":root{plot.COLOURS.strip() % ':root'}{_STYLE}</style></head><body>",
        f"<h1>{escape(_title(found))}</h1>",
        *(f'<p class="muted">{escape(line)}</p>' for line in facts(found)),
        f'<p class="verdict">{escape(verdict(found))}</p>',
        plot.svg(found),
        _html_table(HEADER, table(found)),
        "<h2>By threshold</h2>",
        _html_table(_CURVE, _points(found)),
        f'<h2>Measured with</h2><p class="muted">{escape(_versions(found))}</p></body></html>',
    ]
    return "\n".join(parts) + "\n"


_CURVE = ("threshold", "escalated", "accuracy")


def _points(found: Calibration) -> list[list[str]]:
    return [
        [f"{point.threshold:.4g}", f"{100 * point.share:.1f} %", percent(point.accuracy)]
        for point in found.measured.curve
    ]


def _title(found: Calibration) -> str:
    return f"{found.small}, asking {found.large} when unsure"


def _versions(found: Calibration) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.libraries.items())


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# Numbers in words


def percent(interval: Interval, digits: int = 2) -> str:
    """A share in percent with its interval."""
    return _interval(interval, lambda share: f"{100 * share:.{digits}f}", " %")


def points(interval: Interval) -> str:
    """A difference of shares in percentage points with its interval."""
    return _interval(interval, lambda share: f"{100 * share:.2f}".replace("-", "\u2212"))


def _duration(latency: Latency, name: str) -> str:
    interval: Interval = getattr(latency, name)
    return _interval(interval, seconds)


def _interval(interval: Interval, words: Callable[[float], str], unit: str = "") -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return MISSING
    return f"{words(interval.value)}{unit} [{words(interval.low)} to {words(interval.high)}]"


def _negative(interval: Interval) -> Interval:
    value, low, high = (None if end is None else -end for end in (interval.value, interval.low, interval.high))
    return Interval(value, high, low)


def _met(interval: Interval, most: float) -> str:
    if interval.value is None or interval.high is None:
        return "nobody can tell"
    if interval.high <= most + 1e-12:
        return "met, by the whole interval"
    return "met, though the interval reaches beyond it" if interval.value <= most + 1e-12 else "missed on these rows"
