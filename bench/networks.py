"""The text encoder and the image network, where the model is nearly all of the work.

Forwardpass at 64 connections against (a), the same work in a plain loop, on one core and on two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench import servers
from bench.bench import Bench, Target
from bench.load import Load, Request
from bench.processes import StartFailed, pinned
from bench.table import Row

CONNECTIONS = 64
BATCHES = (1, 2, 4, 8, 16, 32, 64)
WORDS = {"text": "text encoder", "image": "image network"}
Raw = subprocess.Popen[str]


def run(bench: Bench, kind: str) -> list[Row]:
    """The measures of ``text`` or ``image``."""
    with ExitStack() as stack:
        raw = [stack.enter_context(start_raw(bench, kind, core)) for core in sorted(bench.cores.both)]
        batch = best_batch(bench, raw[0])
        pairs = [("one core", bench.cores.server, bench.cores.client)]
        if len(bench.cores.both) > 1:
            pairs.append(("both cores", bench.cores.both, bench.cores.both))
        targets = [_target(bench, stack, kind, *pair) for pair in pairs]
        for _ in range(bench.plan.rounds):
            for (cores, used, _client), target in zip(pairs, targets, strict=True):
                name = raw_name(kind, cores)
                bench.results.attempt(name, partial(raw_load, raw[: len(used)], batch, bench.plan.slow))
                if target:
                    bench.results.attempt(target.name, partial(bench.measure, target, CONNECTIONS, bench.plan.slow))
    return [_row(bench, kind, cores, batch) for cores, *_ in pairs]


def best_batch(bench: Bench, raw: Raw) -> int:
    """The batch size with the highest rate of a few, each tried for a short time."""
    seconds = bench.plan.slow / 8
    return max(BATCHES, key=lambda batch: raw_load([raw], batch, seconds).rate)


def raw_load(processes: list[Raw], batch: int, seconds: float) -> Load:
    """One round of the plain loop in every process at once."""
    for process in processes:
        _tell(process, f"{batch} {seconds}")
    answers = [json.loads(_hear(process)) for process in processes]
    rows, cpu = (sum(answer[fact] for answer in answers) for fact in ("rows", "cpu"))
    longest = max(answer["seconds"] for answer in answers)
    return Load(rows, longest, p50=0.0, p99=0.0, client_cpu=0.0, server_cpu=cpu)


def raw_name(kind: str, cores: str) -> str:
    return f"(a) raw, {kind}, {cores}"


def ours_name(kind: str, cores: str) -> str:
    return f"Forwardpass, {kind}, {cores}"


def request(bench: Bench, kind: str) -> Request:
    if kind == "text":
        return Request("/v2/models/text/infer", "application/json", bench.requests("text_*.json"))
    return Request("/v1/models/image:predict", "image/jpeg", bench.requests("image.jpg"))


def _row(bench: Bench, kind: str, cores: str, batch: int) -> Row:
    measure = f"{WORDS[kind]}, pre- and postprocessing included, {cores}"
    ours, raw = ours_name(kind, cores), raw_name(kind, cores)
    if why := bench.results.why_not(ours, raw):
        return Row(measure, None, "of (a)", 0.95, True, why)
    ratio = bench.results.ratio((ours, "rate"), (raw, "rate"))
    return Row(measure, ratio, "of (a)", 0.95, True, f"(a) runs batches of {batch}")


def _target(bench: Bench, stack: ExitStack, kind: str, cores: str, used: set[int], client: set[int]) -> Target | None:
    """Forwardpass with one replica per core, started and checked."""
    log = bench.log(f"{kind}_{len(used)}")
    started = servers.forwardpass(bench.model(kind), used, log, replicas=len(used))
    server = bench.start(stack, started, ours_name(kind, cores))
    target = server and Target(ours_name(kind, cores), server, request(bench, kind), client)
    return target if target and bench.check(target, kind) else None


@contextmanager
def start_raw(bench: Bench, kind: str, core: int) -> Iterator[Raw]:
    """A process of the plain loop on one core, ready for ``raw_load``."""
    command = [sys.executable, "-m", "bench.raw", kind, str(bench.work / "models")]
    with pinned(command, {core}, {}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if _hear(process) != "ready":
            raise StartFailed(f"the plain loop of {kind} did not start")
        yield process


def _tell(process: Raw, line: str) -> None:
    assert process.stdin is not None  # it was started with pipes
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: Raw) -> str:
    assert process.stdout is not None  # it was started with pipes
    return process.stdout.readline().strip()
