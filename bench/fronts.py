"""What a second front costs: CPU seconds per request with ``--fronts 2`` against ``--fronts 1``.

The tiny model at 64 connections, V2 JSON and binary; the server's processes on one core, the load on
another, so the rates say little of what several fronts are for. Processes that share a core also share
its caches, and each has half the connections, so smaller batches: two servers of one front each, with
nothing in common, show how much of the difference that is. All servers run all the time and are measured
in turns. ``python -m bench.fronts`` runs this section alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import models
from bench.bench import QUICK, Bench, Cores, Plan, Target
from bench.load import Load, Request
from bench.models import HEADER_LENGTH_FILE
from bench.processes import free_port, serving
from bench.results import Results
from bench.servers import Started
from bench.table import Row, details, measures
from bench.tiny import CONNECTIONS, INFER

MOST = 1.1  # times the CPU of one front
ROUNDS = 5  # of each: short ones in turns say more than long ones
KINDS = ("JSON", "binary")


def run(bench: Bench) -> list[Row]:
    with ExitStack() as stack:
        targets = [target for count in (1, 2) for target in _targets(bench, stack, count)]
        beside = _targets(bench, stack, 1)
        for _ in range(max(ROUNDS, bench.plan.rounds)):
            for kind in KINDS:
                for target in targets:
                    if target.name.endswith(kind):
                        measure = partial(bench.measure, target, CONNECTIONS, bench.plan.fast)
                        bench.results.attempt(target.name, measure)
                pair = [target for target in (*targets, *beside) if target.name == name(1, kind)]
                if len(pair) == 2:
                    bench.results.attempt(apart(kind), partial(_together, bench, pair))
    return rows(bench.results)


def rows(results: Results) -> list[Row]:
    """The measures, from whatever was measured."""
    return [_row(results, kind) for kind in KINDS]


def _row(results: Results, kind: str) -> Row:
    measure = f"two fronts, tiny model, V2 {kind}, 64 connections, server CPU per request"
    one, two = name(1, kind), name(2, kind)
    if why := results.why_not(one, two):
        return Row(measure, None, "times one front", MOST, False, why)
    ratio = results.ratio((two, "cpu_per_request"), (one, "cpu_per_request"))
    note = f"rate on one core: {results.ratio((two, 'rate'), (one, 'rate')).median:.3g} times"
    if results.why_not(apart(kind)) is None:
        both = results.ratio((apart(kind), "cpu_per_request"), (one, "cpu_per_request")).median
        note += f"; two servers of one front each, CPU per request: {both:.3g} times"
    return Row(measure, ratio, "times one front", MOST, False, note)


def name(count: int, kind: str) -> str:
    return f"Forwardpass, tiny, {'one front' if count == 1 else f'{count} fronts'}, {kind}"


def apart(kind: str) -> str:
    return f"Forwardpass, tiny, two servers of one front, {kind}"


def _together(bench: Bench, pair: Sequence[Target]) -> Load:
    """All servers at once, the connections in equal parts."""
    measure = partial(bench.measure, connections=CONNECTIONS // len(pair), seconds=bench.plan.fast)
    with ThreadPoolExecutor(len(pair)) as pool:
        loads = list(pool.map(measure, pair))
    return Load(
        sum(load.requests for load in loads),
        max(load.seconds for load in loads),
        max(load.p50 for load in loads),
        max(load.p99 for load in loads),
        client_cpu=0.0,  # not told apart
        server_cpu=sum(load.server_cpu for load in loads),
    )


def _targets(bench: Bench, stack: ExitStack, count: int) -> list[Target]:
    """A server with so many fronts, started and checked."""
    server = bench.start(stack, _server(bench, count), *(name(count, kind) for kind in KINDS))
    if server is None:
        return []
    length = int((bench.work / "requests" / HEADER_LENGTH_FILE).read_text())
    requests = {
        "JSON": Request(INFER, "application/json", bench.requests("tiny.json")),
        "binary": Request(INFER, "application/octet-stream", bench.requests("tiny.bin"), length),
    }
    targets = [Target(name(count, kind), server, requests[kind], bench.cores.client) for kind in KINDS]
    return [target for target in targets if bench.check(target, "tiny")]


def _server(bench: Bench, count: int) -> Started:
    """On the server's core alone, with one worker."""
    program = str(Path(sys.executable).with_name("forwardpass"))
    port = free_port()
    options = ["--port", str(port), "--no-grpc", "--cores", "1", "--replicas", "1", "--fronts", str(count)]
    command = [program, "serve", str(bench.model("tiny")), *options]
    return serving(command, port, "/readyz", bench.cores.server, bench.log(f"fronts_{count}_{port}"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fronts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short rounds; shows trends, not figures to quote")
    quick = parser.parse_args().quick
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = Path(__file__).resolve().parents[1]
    os.chdir(root)
    bench = Bench(root / "build" / "bench", QUICK if quick else Plan(), Cores.choose())
    models.prepare(bench.work)
    os.sched_setaffinity(0, bench.cores.client)  # waiting and polling must not take the server's core
    found = run(bench)
    print(f"{measures(found)}\n\n{details(bench.results)}")


if __name__ == "__main__":
    main()
