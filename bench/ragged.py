"""Texts of unlike length: what batching by arrival makes worse, and batching by cost must not.

Forwardpass at 64 connections against the same texts sorted by length in a plain loop, and its
latency at 70 % of its own rate, with callers at even and at random times.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from bench import servers
from bench.bench import Bench, Target
from bench.load import Load, LoadFailed, Request
from bench.networks import CONNECTIONS, best_batch, raw_load, start_raw
from bench.results import Summary
from bench.table import Row
from forwardpass.loadtest import Arrivals, HttpTarget, http_request, opened
from forwardpass.loadtest import run as measure

PATH = "/v2/models/text/infer"
OURS, SORTED = "Forwardpass, texts of 4 to 128 tokens", "(a) raw, the same texts sorted by length"
SHARE = 0.7  # of the rate at 64 connections
LATENCY = {arrivals: f"{OURS}, 70 % load, {arrivals} arrivals" for arrivals in Arrivals}


def run(bench: Bench) -> list[Row]:
    with ExitStack() as stack:
        raw = stack.enter_context(start_raw(bench, "sorted", min(bench.cores.server)))
        batch = best_batch(bench, raw)
        started = servers.forwardpass(bench.model("text"), bench.cores.server, bench.log("ragged"))
        server = bench.start(stack, started, OURS, *LATENCY.values())
        if server is not None:
            request = Request(PATH, "application/json", bench.requests("mixed_*.json"))
            target = Target(OURS, server, request, bench.cores.client)
            for _ in range(bench.plan.rounds):
                bench.results.attempt(SORTED, partial(raw_load, [raw], batch, bench.plan.slow))
                bench.results.attempt(OURS, partial(bench.measure, target, CONNECTIONS, bench.plan.slow))
            for _ in range(bench.plan.rounds):
                for arrivals, name in LATENCY.items():
                    bench.results.attempt(name, partial(_latency, bench, target, arrivals))
    return [_rate(bench, batch), *(_tail(bench, name, arrivals) for arrivals, name in LATENCY.items())]


def _latency(bench: Bench, target: Target, arrivals: Arrivals) -> Load:
    """One round of the open loop; latency counts from when a request was due."""
    rate = SHARE * bench.results.summary(OURS, "rate").median
    url = f"http://127.0.0.1:{target.server.port}{PATH}"
    headers = {"content-type": "application/json"}
    bodies = [http_request(url, body.read_bytes(), headers) for body in target.request.bodies]
    seconds = 2 * bench.plan.slow  # a p99 wants some thousand requests
    result = measure(opened(HttpTarget("v2-json", tuple(bodies), url=url), rate, seconds, arrivals=arrivals))
    if result.failed or not result.punctual:
        raise LoadFailed(f"{result.failed} failed ({result.first_error}), on time: {result.punctual}")
    return Load(result.ok, seconds, result.latency.percentile(50), result.latency.percentile(99), client_cpu=0.0)


def _rate(bench: Bench, batch: int) -> Row:
    measure = "text encoder, texts of 4 to 128 tokens, one core"
    if why := bench.results.why_not(OURS, SORTED):
        return Row(measure, None, "of (a) sorted", 0.9, True, why)
    ratio = bench.results.ratio((OURS, "rate"), (SORTED, "rate"))
    return Row(measure, ratio, "of (a) sorted", 0.9, True, f"(a) runs batches of {batch}, sorted by length")


def _tail(bench: Bench, name: str, arrivals: Arrivals) -> Row:
    measure = f"the same, p99 at 70 % load, {arrivals} arrivals"
    if why := bench.results.why_not(name):
        return Row(measure, None, "times the median", 2.5, False, why)
    ratio: Summary = bench.results.ratio((name, "p99"), (name, "p50"))
    return Row(measure, ratio, "times the median", 2.5, False)
