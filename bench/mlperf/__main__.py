"""``python -m bench.mlperf``: LoadGen against every model, one section of ``docs/benchmarks.md`` at the end.

A full run takes about 10 minutes, keeps LoadGen's summaries in ``docs/mlperf`` and replaces its section
of the page; with ``--quick`` or ``--only`` both go to ``build/bench/mlperf`` only. Every run prints the
section, and ends its servers also after an error, Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench import machine, models
from bench.bench import Bench, Cores, Plan
from bench.mlperf import table
from bench.mlperf.samples import MODELS
from bench.mlperf.scenario import run_program
from bench.mlperf.visit import BOUND, CHECKED, OFFLINE_ROWS, QUICK, STREAM_ROWS, Lengths, Place, Visit, visit

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench"
SWITCH = 0.0005  # seconds after which LoadGen's thread gets the interpreter from the client's; usually 5 ms


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(ROOT)
    sys.setswitchinterval(SWITCH)
    begun, cores = time.monotonic(), Cores.choose()
    facts = {**machine.facts(), "LoadGen": version("mlcommons-loadgen")}
    facts["load generator"] = f"MLPerf LoadGen {facts.pop('LoadGen')}"
    models.prepare(WORK)
    places = Place.choose(cores)[: 1 if options.quick else None]
    lengths = QUICK if options.quick else Lengths()
    visits = _visits(Bench(WORK, Plan(), cores), places, options.only, lengths)
    text = table.render(facts, visits, _notes(cores, (time.monotonic() - begun) / 60))
    whole = not options.quick and options.only == list(MODELS)
    table.keep(ROOT / "docs" / "mlperf" if whole else WORK / "mlperf" / "summaries", visits)
    (WORK / "mlperf" / "mlperf.md").write_text(text, encoding="utf-8")
    if whole:
        table.write(ROOT / "docs" / "benchmarks.md", text)
    print(text)


def _visits(bench: Bench, places: Sequence[Place], kinds: Sequence[str], lengths: Lengths) -> list[Visit]:
    found = []
    for place in places:
        os.sched_setaffinity(0, place.client)  # threads that start from here on inherit it
        for kind in kinds:
            print(f"measuring: {kind}, {place.name}", file=sys.stderr, flush=True)
            found.append(visit(bench, kind, place, lengths))
    return found


def _notes(cores: Cores, minutes: float) -> list[str]:
    one, other = (", ".join(map(str, sorted(used))) for used in (cores.server, cores.client))
    return [
        f"{minutes:.1f} minutes in all. One core: server on core {one}, LoadGen and its client on core {other}. Both "
        "cores: one replica on each, and LoadGen and its client share them.",
        f"Bound: {BOUND:g} times the median of SingleStream in the same run; of the image network the p90, "
        "for LoadGen wants at least 459 queries to judge a p99, and so many images take too long. "
        f"MultiStream: p90, for the same reason; {STREAM_ROWS} samples a query, one request for each replica. "
        f"Offline: requests of {OFFLINE_ROWS} rows.",
        "Before timing, every sample ran in LoadGen's accuracy mode, and the answers to "
        f"{CHECKED} of them (all, where there are fewer) were compared with ONNX Runtime's.",
        "LoadGen's own summaries: `docs/mlperf`.",
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.mlperf", description="Drive Forwardpass with MLPerf LoadGen."
    )
    parser.add_argument("--quick", action="store_true", help="one core, short runs; shows that it works")
    parser.add_argument("--only", type=_kinds, default=list(MODELS), help=f"some of {','.join(MODELS)}")
    return parser.parse_args()


def _kinds(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in MODELS:
            raise argparse.ArgumentTypeError(f"no {name!r}; known: {', '.join(MODELS)}")
    return [name for name in MODELS if name in names]


if __name__ == "__main__":
    run_program(main)
