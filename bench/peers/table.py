"""Writes the section "Peers": targets met or missed, every peer's figures, versions and set-ups, what failed.

Replaces what lies between its two markers in ``docs/benchmarks.md``; everything else there stays.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.load import Load
from bench.peers.peers import OURS, Peer
from bench.peers.visit import MEASURES, Visitor, name
from bench.results import Summary
from bench.table import Row, measures, write_section

BEGIN, END = "<!-- peers: written by `make bench-peers` -->", "<!-- end of peers -->"
RATES = ("tiny", "binary", "text", "image")
TIMES = ("single", "unbatched", "open", "text-open")
HEADS = {
    "tiny": "tiny JSON",
    "binary": "tiny binary",
    "text": "text",
    "image": "image",
    "single": "1 connection",
    "unbatched": "1 connection, batching off",
    "open": "tiny, open loop",
    "text-open": "text, open loop",
}


def render(facts: Mapping[str, str], visitor: Visitor, peers: Sequence[Peer], notes: Sequence[str]) -> str:
    head = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    parts = ["## Peers", head, measures(targets(visitor, peers))]
    parts += ["Requests per second at 64 connections (spread over the rounds):", rates(visitor, peers)]
    parts += ["Milliseconds, p50 / p99; seconds to the first answer; megabytes:", times(visitor, peers)]
    parts += [setups(peers), "\n".join(f"- {note}" for note in (*notes, *missing(peers), *failures(visitor)))]
    return "\n\n".join(parts) + "\n"


def targets(visitor: Visitor, peers: Sequence[Peer]) -> list[Row]:
    rate, single = _loads(visitor, "rate"), ("single", "unbatched")
    words = {"tiny": 2.0, "binary": 2.0, "text": 1.0, "image": 1.0}
    rows = [_row(f"{HEADS[m]}, requests per second", rate, peers, (m,), target) for m, target in words.items()]
    rows += [_row(f"tiny, 1 connection, {p}", _loads(visitor, p), peers, single, None) for p in ("p50", "p99")]
    rows.append(_row("memory, tiny, after load", visitor.numbers, peers, ("memory",), None))
    rows.append(_row("command to first answer, tiny", visitor.numbers, peers, ("start",), None))
    return rows


def _row(
    what: str, values: Mapping[str, Sequence[float]], peers: Sequence[Peer], asked: Sequence[str], target: float | None
) -> Row:
    """Ours in times of the best peer's median: at least ``target``, or (``None``: less is better) at most 1."""
    at_least, goal, unit = target is not None, target or 1.0, "times the best peer"
    ours = values.get(name(OURS, asked[0]))
    medians = {
        (peer.name, measure): statistics.median(values[name(peer, measure)])
        for peer in peers
        for measure in asked
        if peer is not OURS and name(peer, measure) in values
    }
    if not ours or not medians:
        return Row(what, None, unit, goal, at_least, "not measured for us" if not ours else "no peer was measured")
    best = (max if at_least else min)(medians, key=lambda key: medians[key])
    note = f"best: {best[0]}{', batching off' if best[1] == 'unbatched' else ''}"
    return Row(what, Summary.of([value / medians[best] for value in ours]), unit, goal, at_least, note)


def rates(visitor: Visitor, peers: Sequence[Peer]) -> str:
    def cell(peer: Peer, measure: str) -> str:
        loads = visitor.loads.get(name(peer, measure))
        if not loads:
            return _absent(visitor, peer, measure)
        rate = Summary.of([load.rate for load in loads])
        return f"{rate.median:,.{0 if rate.median > 100 else 1}f} ({rate.spread:.0%})"

    return _grid([HEADS[m] for m in RATES], {peer.name: [cell(peer, m) for m in RATES] for peer in peers})


def times(visitor: Visitor, peers: Sequence[Peer]) -> str:
    def cell(peer: Peer, measure: str) -> str:
        loads = visitor.loads.get(name(peer, measure))
        return f"{_ms(loads, 'p50')} / {_ms(loads, 'p99')}" if loads else _absent(visitor, peer, measure)

    def number(peer: Peer, measure: str, digits: int) -> str:
        values = visitor.numbers.get(name(peer, measure))
        return f"{statistics.median(values):.{digits}f}" if values else _absent(visitor, peer, measure)

    rows = {
        peer.name: [cell(peer, m) for m in TIMES] + [number(peer, "start", 1), number(peer, "memory", 0)]
        for peer in peers
    }
    return _grid([*(HEADS[m] for m in TIMES), "start s", "memory MB"], rows)


def setups(peers: Sequence[Peer]) -> str:
    rows = {peer.name: [", ".join(peer.packages) or "this repository", peer.setup] for peer in peers}
    return _grid(["version", "set-up"], rows, ":--")


def missing(peers: Sequence[Peer]) -> list[str]:
    return [f"{peer.name}, {MEASURES[m]}: {why}." for peer in peers for m, why in peer.missing.items()]


def failures(visitor: Visitor) -> list[str]:
    """What failed, how often, and the last reason."""
    return [
        f"{what} failed in {len(reasons)} round(s): {' '.join(reasons[-1].split())[-300:]}"
        for what, reasons in visitor.failures.items()
    ]


def write(file: Path, text: str) -> None:
    """Replace this section of the page."""
    write_section(file, BEGIN, END, text)


def _loads(visitor: Visitor, fact: str) -> dict[str, list[float]]:
    return {what: [getattr(load, fact) for load in loads] for what, loads in visitor.loads.items()}


def _absent(visitor: Visitor, peer: Peer, measure: str) -> str:
    if name(peer, measure) in visitor.failures:
        return "failed"
    return "not offered" if measure in peer.missing else ""


def _ms(loads: Sequence[Load], fact: str) -> str:
    return f"{1e3 * statistics.median(getattr(load, fact) for load in loads):.3g}"


def _grid(heads: Sequence[str], rows: Mapping[str, Sequence[str]], align: str = "--:") -> str:
    lines = [f"| | {' | '.join(heads)} |", f"| --- | {' | '.join([align] * len(heads))} |"]
    return "\n".join([*lines, *(f"| {label} | {' | '.join(cells)} |" for label, cells in rows.items())])
