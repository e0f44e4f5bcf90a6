"""``python -m bench``: everything in one run, one table at the end.

A full run takes about 40 minutes and writes ``docs/benchmarks.md``. With ``--quick`` or ``--only``
the table goes to ``build/bench/benchmarks.md`` only. Every run prints it, and ends its servers also
after an error, Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bench import device, footprint, fronts, gateway, jobs, machine, models, networks, optimized, ragged, slack, tiny
from bench.bench import QUICK, Bench, Cores, Plan
from bench.table import Row, render, write

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "bench"
SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "tiny": tiny.run,
    "fronts": fronts.run,
    "gateway": gateway.run,
    "text": lambda bench: networks.run(bench, "text"),
    "ragged": ragged.run,
    "slack": slack.run,
    "image": lambda bench: networks.run(bench, "image"),
    "optimized": optimized.run,
    "jobs": jobs.run,
    "device": device.run,
    "start": footprint.start,
    "memory": footprint.memory,
}


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(ROOT)
    facts = machine.facts()
    cores = Cores.choose()
    bench = Bench(WORK, QUICK if options.quick else Plan(), cores)
    models.prepare(WORK)
    os.sched_setaffinity(0, cores.client)  # waiting and polling must not take the server's core
    rows: list[Row] = []
    for section in options.only:
        print(f"measuring: {section}", file=sys.stderr, flush=True)
        rows += SECTIONS[section](bench)
    text = render(facts, rows, bench.results, _notes(bench))
    (WORK / "benchmarks.md").write_text(text, encoding="utf-8")
    if not options.quick and options.only == list(SECTIONS):
        write(ROOT / "docs" / "benchmarks.md", text)
    print(text)


def _notes(bench: Bench) -> list[str]:
    plan, cores = bench.plan, bench.cores
    return [
        f"{plan.rounds} rounds; {plan.fast:g} s for each measurement of the tiny model, {plan.slow:g} s of the others, "
        f"after {plan.warm:g} s of warm-up.",
        f"Server on core {_list(cores.server)}, load on core {_list(cores.client)}"
        + ("." if cores.server != cores.client else " as well: this machine has one core, the ratios mean little."),
    ]


def _list(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Forwardpass against its yardsticks.")
    parser.add_argument("--quick", action="store_true", help="short rounds; shows trends, not figures to quote")
    parser.add_argument("--only", type=_sections, default=list(SECTIONS), help=f"some of {','.join(SECTIONS)}")
    return parser.parse_args()


def _sections(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"no section {name!r}; known: {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]


if __name__ == "__main__":
    main()
