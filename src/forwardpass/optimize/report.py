"""The report of a search: a page, a text in Markdown, and the same facts as JSON.

All three are written from one ``Search`` and say the same: what won and why, every candidate with its verdict, the rows
on which candidates lost. The page needs nothing but itself: no script, no font and no address of elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import msgspec

from forwardpass.optimize import plot
from forwardpass.optimize.results import Entry, Figures
from forwardpass.optimize.search import Search

MISSING, TIMES = "\u2013", "\u00d7"
HEADER = ("", "candidate", "drop", "agreement", "p50", "p99", "rows/s", "batch", "memory", "size", "start", "gain")
_STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--ink:#1d1c1a;--muted:#66635c;--line:#e2dfd7;--ok:#0d6b64;--bad:#b3401e}
@media (prefers-color-scheme:dark){:root{--paper:#17191a;--ink:#eceae5;--muted:#a09c94;--line:#313437;--ok:#5ecabd;
--bad:#f0805e}}
body{margin:0 auto;max-width:1180px;padding:32px 24px 64px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:24px;line-height:1.25;margin:0 0 4px}h2{font-size:17px;margin:36px 0 8px}p{margin:4px 0}
.muted{color:var(--muted)}.verdict{font-size:17px;margin:14px 0 22px;padding:12px 16px;border-left:4px solid var(--ok)}
.verdict.none{border-color:var(--muted)}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:6px 7px;border-top:1px solid var(--line);white-space:nowrap;vertical-align:top}
th{color:var(--muted);font-weight:500;border:0}th:nth-child(2),td:nth-child(2){text-align:left;white-space:normal;min-width:9em}
tr.why td{border:0;padding-top:0;text-align:left;white-space:normal;color:var(--muted)}
tr.passed .verdict-mark{color:var(--ok)}tr.rejected .verdict-mark{color:var(--bad)}tr.won td{font-weight:600}
.rows td,.rows th{text-align:left;white-space:normal}
"""


def write(search: Search, files: Sequence[Path]) -> None:
    """Write the page, the Markdown and the JSON, in this order."""
    page, text, data = files
    page.write_text(html(search), encoding="utf-8")
    text.write_text(markdown(search), encoding="utf-8")
    data.write_bytes(msgspec.json.format(msgspec.json.encode(search)) + b"\n")


def html(search: Search) -> str:
    """The page."""
    head = "".join(f"<th>{name}</th>" for name in HEADER)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(_title(search))}</title><style>{_STYLE}{plot.STYLE}</style></head><body>",
        f"<h1>{escape(_title(search))}</h1>",
        *(f'<p class="muted">{escape(line)}</p>' for line in _facts(search)),
        f'<p class="verdict{"" if search.winner else " none"}">{escape(verdict(search))}</p>',
        plot.svg(search),
        f'<h2>Candidates</h2><div class="scroll"><table><tr>{head}</tr>',
        _html_row(_parent_cells(search), "parent"),
        *(_html_entry(search, number, entry) for number, entry in enumerate(search.entries, 1)),
        "</table></div>",
        *_html_worst(search),
        f'<h2>Measured with</h2><p class="muted">{escape(_versions(search))}</p>',
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def markdown(search: Search) -> str:
    """The same as text."""
    lines = [f"# {_title(search)}", "", *(f"{line}  " for line in _facts(search)), "", f"**{verdict(search)}**", ""]
    lines += ["## Candidates", "", _md_row(HEADER), _md_row(["---"] * len(HEADER)), _md_row(_parent_cells(search))]
    lines += [_md_row(_cells(search, number, entry)) for number, entry in enumerate(search.entries, 1)]
    lines += [
        "",
        *(f"{at}. {entry.title}: {': '.join(_verdict(entry))}" for at, entry in enumerate(search.entries, 1)),
    ]
    for number, entry in _losers(search):
        assert entry.quality is not None
        lines += ["", f"## Worst rows of {number}, {entry.title}", ""]
        lines += [_md_row(["row", "label", "parent", "candidate", "input"]), _md_row(["---"] * 5)]
        lines += [
            _md_row([str(row.row), row.label, row.parent, row.candidate, row.input]) for row in entry.quality.worst
        ]
    return "\n".join([*lines, "", "## Measured with", "", _versions(search)]) + "\n"


def verdict(search: Search) -> str:
    """What came of it, in a sentence or two."""
    if (won := search.won) is not None:
        return f"{won.title} is the best: {won.reason}. It is at {_near(search.out)}; the parent stays as it was."
    measured = sum(entry.figures is not None for entry in search.entries)
    return (
        f"The parent is the best: of {len(search.entries)} candidates {measured} could be measured, and none passed. "
        "Nothing was changed."
    )


def _near(path: str) -> str:
    """A path as one would write it here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _title(search: Search) -> str:
    return f"{search.model} version {search.version}, optimised for {search.objective}"


def _facts(search: Search) -> list[str]:
    score = search.score
    found = f"{search.metric} of {search.output!r} is {_number(score.value)}"
    if score.low is not None and score.high is not None:
        found += f" [{_number(score.low)} to {_number(score.high)}]"
    apart = f"; {search.calibration} further rows were for calibration" if search.calibration else ""
    unusable = f", {search.unusable} could not be used" if search.unusable else ""
    return [
        f"The parent's {found} on {search.rows:,} held-out rows{apart}{unusable}. "
        f"Allowed drop: {search.gate.amount(search.max_drop)}.",
        f"{_where(search)}; {search.seconds:.0f} s; data {search.fingerprint[:12]}.",
    ]


def _where(search: Search) -> str:
    measured = "" if search.target == "local" else f"Measured on {search.target}: "
    return f"{measured}{search.machine.get('processor')}, {search.machine.get('cores')} cores"


def _versions(search: Search) -> str:
    return ", ".join(f"{name} {version}" for name, version in search.libraries.items())


# Rows of the table


def _parent_cells(search: Search) -> list[str]:
    return ["", "parent", "", "", *_figures(search.parent), f"1{TIMES}"]


def _cells(search: Search, number: int, entry: Entry) -> list[str]:
    drop = agreement = gain = MISSING
    if entry.quality is not None:
        drop, agreement = search.gate.words(entry.quality.drop), f"{100 * entry.quality.agreement:.2f} %"
    if entry.gains is not None:
        gain = f"{entry.gains[search.objective].median:.2f}{TIMES}"
    figures = _figures(entry.figures) if entry.figures else [MISSING] * 7
    return [str(number), entry.title, drop, agreement, *figures, gain]


def _figures(figures: Figures) -> list[str]:
    return [
        seconds(figures.p50),
        seconds(figures.p99),
        f"{figures.throughput:,.0f}" if figures.throughput >= 10 else f"{figures.throughput:.2f}",
        str(figures.batch),
        size(figures.memory or figures.peak),
        size(figures.size),
        seconds(figures.start),
    ]


def _verdict(entry: Entry) -> tuple[str, str]:
    """What became of it in a word or two, and why."""
    if entry.failure:
        word, _, reason = entry.reason.partition(": ")
        return word, reason
    return ("passed" if entry.passed else "rejected"), entry.reason


def _html_entry(search: Search, number: int, entry: Entry) -> str:
    kind = f"{'passed' if entry.passed else 'rejected'}{' won' if entry.name == search.winner else ''}"
    word, reason = _verdict(entry)
    why = f'<span class="verdict-mark">{word}</span>: {escape(reason)}'
    line = f'<tr class="why {kind.split()[0]}"><td></td><td colspan="{len(HEADER) - 1}">{why}</td></tr>'
    return _html_row(_cells(search, number, entry), kind) + line


def _html_row(cells: Sequence[str], kind: str) -> str:
    return f'<tr class="{kind}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _losers(search: Search) -> list[tuple[int, Entry]]:
    return [(at, entry) for at, entry in enumerate(search.entries, 1) if entry.quality and entry.quality.worst]


def _html_worst(search: Search) -> list[str]:
    parts = []
    for number, entry in _losers(search):
        assert entry.quality is not None
        rows = "".join(
            _html_row([str(row.row), row.label, row.parent, row.candidate, row.input], "")
            for row in entry.quality.worst
        )
        parts.append(f"<h2>Worst rows of {number}, {escape(entry.title)}</h2>")
        parts.append(
            f'<div class="scroll"><table class="rows"><tr><th>row</th><th>label</th><th>parent</th>'
            f"<th>candidate</th><th>input</th></tr>{rows}</table></div>"
        )
    return parts


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# Numbers in words


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4f}"


def seconds(value: float) -> str:
    """A duration with three digits."""
    if value < 0.9e-3:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if value < 0.9 else f"{value:.3g} s"


def size(value: int) -> str:
    """Bytes with three digits."""
    if value < 1000 * 1024:
        return f"{value / 1024:.3g} KiB"
    return f"{value / 1024**2:.3g} MiB" if value < 1000 * 1024**2 else f"{value / 1024**3:.3g} GiB"
