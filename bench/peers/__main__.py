"""``python -m bench.peers``: every peer in one run, one section at the end.

The first run installs the peers (3 minutes). A full run takes about 20 more and writes its section into
``docs/benchmarks.md``; with ``--quick``, ``--only`` or ``--measures`` it goes to ``build/peers/peers.md`` only.
Every run prints it, and ends all servers also after an error, Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import machine, models
from bench.bench import Bench, Cores, Plan
from bench.peers import bodies, environments
from bench.peers.peers import OURS, PEERS, Peer
from bench.peers.table import render, write
from bench.peers.visit import BATCH, MEASURES, SHARE, VISITS, Visitor, name
from bench.processes import StartFailed

ROOT = Path(__file__).resolve().parents[2]
BENCH, WORK = ROOT / "build" / "bench", ROOT / "build" / "peers"
FULL, QUICK = Plan(rounds=3, warm=1, fast=3, slow=6), Plan(rounds=1, warm=1, fast=2, slow=4)
SLOW_ROUNDS = 2  # of the text encoder and the image network, which vary less


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(ROOT)
    begun, facts, cores = time.monotonic(), machine.facts(), Cores.choose()
    plan = QUICK if options.quick else FULL
    models.prepare(BENCH)
    bodies.write(BENCH / "requests")
    visitor = Visitor(Bench(BENCH, plan, cores), WORK, frozenset(options.measures))
    peers = [peer for peer in PEERS if peer is OURS or peer.name in options.only]
    peers = [peer for peer in peers if _installed(visitor, peer)]
    os.sched_setaffinity(0, cores.client)  # waiting and polling must not take the server's core
    _rounds(visitor, peers, plan.rounds)
    minutes = (time.monotonic() - begun) / 60
    shown = [peer for peer in PEERS if peer is OURS or peer.name in options.only]
    text = render(facts, visitor, shown, _notes(plan, minutes))
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "peers.md").write_text(text, encoding="utf-8")
    if not options.quick and options.only == _names() and options.measures == list(MEASURES):
        write(ROOT / "docs" / "benchmarks.md", text)
    print(text)


def _installed(visitor: Visitor, peer: Peer) -> bool:
    """False where its environment cannot be built; the table says why."""
    try:
        environments.programs(WORK, peer)
    except (StartFailed, OSError) as reason:
        for measure in visitor.wanted:
            visitor.failures[name(peer, measure)] = [str(reason)]
        return False
    return True


def _rounds(visitor: Visitor, peers: Sequence[Peer], rounds: int) -> None:
    """Every peer once, then every peer again: a slow minute of the machine hits all."""
    for number in range(rounds):
        for visit in VISITS:
            if visit.kind in ("text", "image") and number >= SLOW_ROUNDS:
                continue
            for peer in peers:
                print(f"round {number + 1}: {peer.name}, {visit.kind}", file=sys.stderr, flush=True)
                visitor.visit(peer, visit)


def _notes(plan: Plan, minutes: float) -> list[str]:
    return [
        f"{plan.rounds} rounds of the tiny model, {min(plan.rounds, SLOW_ROUNDS)} of the others, {minutes:.0f} minutes "
        f"in all; {plan.fast:g} s for each measurement of the tiny model, {plan.slow:g} s of the others.",
        "Every round starts every peer anew, alone, on one core; the load comes from the other. One thread for ONNX "
        f"Runtime, one worker, batches of up to {', '.join(f'{rows} ({kind})' for kind, rows in BATCH.items())}.",
        f"Open loop: Poisson arrivals at {SHARE:.0%} of the peer's own rate at 64 connections; latency counts from "
        "when a request was due.",
        "Where batching makes a lone request wait, one connection is measured without batching as well.",
    ]


def _names() -> list[str]:
    return [peer.name for peer in PEERS if peer is not OURS]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Measure Forwardpass against its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round; shows that it works")
    parser.add_argument("--only", type=_some(_names()), default=_names(), help=f"some of: {','.join(_names())}")
    chosen = list(MEASURES)
    parser.add_argument("--measures", type=_some(chosen), default=chosen, help=f"some of: {','.join(chosen)}")
    return parser.parse_args()


def _some(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads names with commas between them, in any case, in the order of ``known``."""

    def read(text: str) -> list[str]:
        names = [given.strip().lower() for given in text.split(",")]
        for given in names:
            if given not in [one.lower() for one in known]:
                raise argparse.ArgumentTypeError(f"no {given!r}; known: {', '.join(known)}")
        return [one for one in known if one.lower() in names]

    return read


if __name__ == "__main__":
    main()
