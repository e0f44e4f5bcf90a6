"""A job beside live traffic: what it costs the live requests, and what it gets of the capacity left over.

The text encoder on one core, at half of its rate, callers at random times; first alone, then with
``forwardpass run --url`` beside it, as ``serve --jobs`` runs it: on the same core, at a low priority.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import servers
from bench.bench import Bench, Target
from bench.load import Load, LoadFailed
from bench.networks import CONNECTIONS, request
from bench.processes import Server
from bench.results import Summary
from bench.table import Row
from bench.texts import sentences
from forwardpass.loadtest import HttpTarget, http_request, opened
from forwardpass.loadtest import run as measure

SHARE = 0.5  # of the rate at 64 connections
ROWS = 200_000  # more than any round can do
NICE = 10
START = 30.0  # seconds in which the job's first rows must be done
OURS = "Forwardpass, text, one core, before a job"
ALONE, BESIDE = (f"Forwardpass, text, {SHARE:.0%} load, {words}" for words in ("alone", "beside a job"))
JOB = "the job beside it"


def run(bench: Bench) -> list[Row]:
    with ExitStack() as stack:
        started = servers.forwardpass(bench.model("text"), bench.cores.server, bench.log("slack"))
        server = bench.start(stack, started, OURS, ALONE, BESIDE, JOB)
        if server is not None:
            target = Target(OURS, server, request(bench, "text"), bench.cores.client)
            for turn in range(bench.plan.rounds):
                bench.results.attempt(OURS, partial(bench.measure, target, CONNECTIONS, bench.plan.slow))
                bench.results.attempt(ALONE, partial(_live, bench, target))
                bench.results.attempt(BESIDE, partial(_beside_a_job, bench, target, turn))
    return [_tail(bench), _rate(bench)]


def _live(bench: Bench, target: Target) -> Load:
    """One round of the open loop; latency counts from when a request was due."""
    rate = SHARE * bench.results.loads[OURS][-1].rate
    url = f"http://127.0.0.1:{target.server.port}{target.request.path}"
    bodies = [http_request(url, body.read_bytes(), target.request.headers()) for body in target.request.bodies]
    seconds = 2 * bench.plan.slow  # a p99 wants some thousand requests
    before = target.server.cpu_seconds()
    result = measure(opened(HttpTarget("v2-json", tuple(bodies), url=url), rate, seconds))
    if result.failed or not result.punctual:
        raise LoadFailed(f"{result.failed} failed ({result.first_error}), on time: {result.punctual}")
    cpu = target.server.cpu_seconds() - before
    return Load(result.ok, seconds, result.latency.percentile(50), result.latency.percentile(99), 0.0, cpu)


def _beside_a_job(bench: Bench, target: Target, turn: int) -> Load:
    """The same, while the rows of the job are counted: all that the server predicted, less the live ones."""
    with _job(bench, target.server, turn):
        before, started = _rows(target.server), time.perf_counter()
        live = _live(bench, target)
        rows, seconds = _rows(target.server) - before - live.requests, time.perf_counter() - started
    bench.results.attempt(JOB, lambda: Load(rows, seconds, 0.0, 0.0, 0.0))
    return live


@contextmanager
def _job(bench: Bench, server: Server, turn: int) -> Iterator[None]:
    """A job that has begun, and that is stopped afterwards."""
    folder = bench.work / "slack"
    folder.mkdir(exist_ok=True)
    texts = folder / "texts.txt"
    if not texts.is_file():
        lines = sentences(256)
        texts.write_text("".join(f"{lines[number % 256]}\n" for number in range(ROWS)))
    output = folder / f"out-{os.getpid()}-{turn}"
    command = [sys.executable, "-m", "forwardpass", "run", "text", str(texts), str(output)]
    with bench.log("slack_job").open("w") as log:
        process = subprocess.Popen(
            [*command, "--url", f"http://127.0.0.1:{server.port}"],
            stderr=log,
            preexec_fn=lambda: _low(bench.cores.server),
            start_new_session=True,
        )
        try:
            _until_it_runs(server, process, bench.log("slack_job"))
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            for left in (output, output.with_name(f"{output.name}.job")):
                shutil.rmtree(left, ignore_errors=True)


def _low(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
    os.nice(NICE)


def _until_it_runs(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    before, end = _rows(server), time.monotonic() + START
    while _rows(server) == before:
        if process.poll() is not None or time.monotonic() > end:
            raise LoadFailed(f"the job did not begin: {log.read_text()[-300:].strip()}")
        time.sleep(0.05)


def _rows(server: Server) -> int:
    """Rows that the server has predicted so far."""
    url = f"http://127.0.0.1:{server.port}/v2/models/text/stats"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(json.load(answer)["model_stats"][0]["inference_count"])


def _tail(bench: Bench) -> Row:
    words = f"text encoder, {SHARE:.0%} load, p99 beside a job"
    if why := bench.results.why_not(ALONE, BESIDE):
        return Row(words, None, "times that without", 1.3, False, why)
    return Row(words, bench.results.ratio((BESIDE, "p99"), (ALONE, "p99")), "times that without", 1.3, False)


def _rate(bench: Bench) -> Row:
    words, unit = "the job beside it, rows per second", "of the capacity left over"
    if why := bench.results.why_not(OURS, BESIDE, JOB):
        return Row(words, None, unit, 0.8, True, why)
    loads = (bench.results.loads[name] for name in (OURS, BESIDE, JOB))
    shares = [job.rate / (most.rate - live.rate) for most, live, job in zip(*loads, strict=True)]
    return Row(words, Summary.of(shares), unit, 0.8, True, "left over: the rate at 64 connections, less the live one")
