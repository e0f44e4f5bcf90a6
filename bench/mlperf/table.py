"""Writes the section "MLPerf" of ``docs/benchmarks.md`` between its markers, and LoadGen's summaries beside it.

Everything else on the page stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.mlperf.visit import BOUND, Visit
from bench.results import Summary
from bench.table import Row, measures, write_section

BEGIN, END = "<!-- mlperf: written by `make bench-mlperf` -->", "<!-- end of mlperf -->"
WORDS = {
    "text": "text encoder, about 28 tokens",
    "mixed": "text encoder, 4 to 128 tokens",
    "image": "image network",
    "tiny": "tiny",
}
TARGET = 0.8
HEADS = ("SingleStream p50 ms", "p90 ms", "MultiStream p90 ms", "Offline samples/s", "Server bound ms",
         "Server queries/s", "of Offline", "an ideal server", "the same, dropping what is late")  # fmt: skip
PATHS = re.compile(r"(?<![\w/])/(?:[\w.-]+/)+[\w.-]*")


def render(facts: Mapping[str, str], visits: Sequence[Visit], notes: Sequence[str]) -> str:
    head = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    rows = [_row(visit) for visit in visits if visit.kind == "text"]
    parts = ["## MLPerf", head, *([measures(rows)] if rows else []), _figures(visits), _searches(visits)]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in (*notes, *_failures(visits)))]) + "\n"


def _row(visit: Visit) -> Row:
    bound = f"p{100 * visit.percentile:g} of {BOUND:g} times SingleStream's median"
    measure = f"{WORDS[visit.kind]}, {visit.place.name}: Server at a {bound}"
    if visit.share is None:
        return Row(measure, None, "of Offline", TARGET, True, visit.failed or "no rate was valid")
    note = ""
    if visit.most is not None:
        order, dropping = (rate / visit.most.offline for rate in (visit.most.in_order, visit.most.dropping))
        note = f"an ideal server: {order:.2f}, {dropping:.2f} where it drops what is late"
    return Row(measure, Summary.of([visit.share]), "of Offline", TARGET, True, note)


def _figures(visits: Sequence[Visit]) -> str:
    lines = [f"| | {' | '.join(HEADS)} |", f"| --- | {' | '.join(['--:'] * len(HEADS))} |"]
    for visit in visits:
        lines.append(f"| {WORDS[visit.kind]}, {visit.place.name} | {' | '.join(_cells(visit))} |")
    return "\n".join(lines)


def _cells(visit: Visit) -> list[str]:
    found, most = visit.outcomes, visit.most
    single, multi, offline, server = (found.get(name) for name in ("SingleStream", "MultiStream", "Offline", "Server"))
    return [
        f"{1e3 * single.latency(50):.3g}" if single else "",
        f"{1e3 * single.latency(90):.3g}{_invalid(single.valid)}" if single else "",
        f"{1e3 * multi.latency(90):.3g}{_invalid(multi.valid)}" if multi else "",
        f"{offline.rate:,.4g}{_invalid(offline.valid)}" if offline else "",
        f"p{100 * visit.percentile:g}: {1e3 * visit.scenarios['Server'].bound:.3g}" if server else "",
        f"{server.rate:,.4g}" if server else "none",
        f"{visit.share:.2f}" if visit.share else "",
        f"{most.in_order:,.4g} ({most.in_order / most.offline:.2f})" if most else "",
        f"{most.dropping:,.4g} ({most.dropping / most.offline:.2f})" if most else "",
    ]


def _invalid(valid: bool) -> str:
    return "" if valid else " (INVALID)"


def _searches(visits: Sequence[Visit]) -> str:
    return "\n".join(
        ["How the rate of Server was found (queries/s asked for; \"held\" and \"not\" by the percentile alone):", ""]
        + [f"- {WORDS[visit.kind]}, {visit.place.name}: {', '.join(visit.probes)}." for visit in visits if visit.probes]
    )  # fmt: skip


def _failures(visits: Sequence[Visit]) -> list[str]:
    return [f"{WORDS[visit.kind]}, {visit.place.name}: {visit.failed}" for visit in visits if visit.failed]


def keep(folder: Path, visits: Sequence[Visit]) -> None:
    """LoadGen's own summaries, one file for each model and place."""
    folder.mkdir(parents=True, exist_ok=True)
    for visit in visits:
        texts = [trim(outcome.summary) for outcome in visit.outcomes.values()]
        if texts:
            name = f"{visit.kind}-{visit.place.name.replace(' ', '-')}.txt"
            (folder / name).write_text("\n".join(texts), encoding="utf-8")


def trim(summary: str) -> str:
    """Without its settings that were left as they are, empty lines, rules, and paths of the machine."""
    lines = [line.rstrip() for line in PATHS.sub("…", summary).splitlines()]
    kept = [line for line in lines if line and not line.startswith("====") and not re.fullmatch(r"\w+ : 0", line)]
    return "\n".join(kept) + "\n"


def write(file: Path, text: str) -> None:
    """Replace this section of the page."""
    write_section(file, BEGIN, END, text)
