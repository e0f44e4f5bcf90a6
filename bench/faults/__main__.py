"""``python -m bench.faults NAME``: one fault, or ``all`` of them, each figure with its verdict.

A fault that cannot be run is a figure that was not measured, and the next one runs. The exit status
is 1 where any figure missed its bound. ``all`` in its long form writes ``docs/faults.md``, after
each fault, so that a run that is cut off leaves what it found.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bench.bench import Cores
from bench.faults import report
from bench.faults.fault import Fault, Trial
from bench.faults.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("overload", "kill", "leave", "cycles", "rolling", "slow", "soak")


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(ROOT)
    cores = Cores.choose()
    trial = Trial(ROOT / "build" / "faults", options.quick, options.seconds, frozenset(cores.server))
    os.sched_setaffinity(0, cores.client)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # the client's pauses would be counted as the server's
    figures: dict[str, Sequence[Figure]] = {}
    took: dict[str, float] = {}
    for name in NAMES if options.name == "all" else (options.name,):
        print(f"running: {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        figures[name] = attempt(create_fault(name), trial)
        took[name] = time.monotonic() - started
        gc.collect()
        print(report.lines(name, figures[name]), flush=True)
        if options.name == "all" and not (options.quick or options.seconds):
            report.write(ROOT / "docs" / "faults.md", report.tables(figures, took))
    return int(not all(item.passed for items in figures.values() for item in items))


def create_fault(name: str) -> Fault:
    """The fault of this name."""
    fault: Fault = import_module(f"bench.faults.{name}").measure
    return fault


def attempt(fault: Fault, trial: Trial) -> Sequence[Figure]:
    """Its figures; one that says why there are none where it broke."""
    try:
        return fault(trial)
    except Exception as error:  # noqa: BLE001  the other faults are run all the same
        traceback.print_exc()
        return [Figure("all of it", None, "", 0, note=f"{type(error).__name__}: {error}")]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description="Overload and faults, as figures.")
    parser.add_argument("name", choices=[*NAMES, "all"], metavar="NAME", help=", ".join(NAMES) + " or all")
    parser.add_argument("--quick", action="store_true", help="the short form: shows that it works, not how well")
    parser.add_argument("--seconds", type=float, help="go on for so long instead (cycles: as many as fit)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
