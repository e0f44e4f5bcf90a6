"""The tiny model, where the server is all there is to measure: Forwardpass, plain FastAPI, nginx.

Rate at 64 connections and latency at one, server on one core and load on another.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from bench import nginx, servers
from bench.bench import Bench, Target
from bench.load import Request
from bench.models import HEADER_LENGTH_FILE
from bench.processes import Server
from bench.results import Results
from bench.table import Row

OURS_JSON, OURS_BINARY = "Forwardpass, tiny, JSON", "Forwardpass, tiny, binary"
PLAIN, QUIET, ASYNC = "(b) plain", "(b) plain, no access log", "(b) plain, `async def`, no access log"
NGINX_JSON, NGINX_BINARY = "(c) nginx, reply as JSON", "(c) nginx, reply as binary"
INFER = "/v2/models/tiny/infer"
ONE = ", 1 connection"
CONNECTIONS = 64


def run(bench: Bench) -> list[Row]:
    with ExitStack() as stack:
        targets = _targets(bench, stack)
        for _ in range(bench.plan.rounds):
            for target in targets:
                bench.results.attempt(target.name, partial(bench.measure, target, CONNECTIONS, bench.plan.fast))
            for target in targets:
                if target.name in (OURS_JSON, OURS_BINARY, PLAIN, NGINX_JSON):
                    bench.results.attempt(target.name + ONE, partial(bench.measure, target, 1, bench.plan.fast))
    return rows(bench.results)


def rows(results: Results) -> list[Row]:
    """The measures of the tiny model, from whatever was measured."""
    one = OURS_JSON + ONE
    return [
        _ratio(results, "tiny model, V2 JSON, 64 connections", OURS_JSON, PLAIN, "rate", "times (b)", 15),
        _ratio(results, "tiny model, V2 JSON, 64 connections", OURS_JSON, NGINX_JSON, "rate", "of (c)", 0.25),
        _ratio(results, "tiny model, V2 binary, 64 connections", OURS_BINARY, NGINX_BINARY, "rate", "of (c)", 0.40),
        _ratio(results, "tiny model, 1 connection, p50", one, NGINX_JSON + ONE, "p50", "times (c)", 2.5),
        _ratio(results, "tiny model, 1 connection, p99", one, one, "p99", "times our p50", 3, under="p50"),
    ]


def _ratio(
    results: Results, measure: str, ours: str, other: str, fact: str, unit: str, target: float, under: str = ""
) -> Row:
    at_least = fact == "rate"
    if why := results.why_not(ours, other):
        return Row(measure, None, unit, target, at_least, why)
    note = ""
    if at_least:
        by_cpu = results.ratio((other, "cpu_per_request"), (ours, "cpu_per_request")).median
        note = f"by server CPU per request: {by_cpu:.3g}"
    return Row(measure, results.ratio((ours, fact), (other, under or fact)), unit, target, at_least, note)


def _targets(bench: Bench, stack: ExitStack) -> list[Target]:
    """Every server, started and checked, in the order in which a round measures them."""
    ours = servers.forwardpass(bench.model("tiny"), bench.cores.server, bench.log("tiny"))
    server = bench.start(stack, ours, OURS_JSON, OURS_BINARY)
    header_length = int((bench.work / "requests" / HEADER_LENGTH_FILE).read_text())
    binary = ("application/octet-stream", bench.requests("tiny.bin"), header_length)
    as_json = ("application/json", bench.requests("tiny.json"))
    found, sizes = [], {"JSON": 230, "binary": 200}  # bytes, where our own server does not say
    for name, request in ((OURS_JSON, Request(INFER, *as_json)), (OURS_BINARY, Request(INFER, *binary))):
        target = server and Target(name, server, request, bench.cores.client)
        if target and (size := bench.check(target, "tiny")):
            sizes[name.rpartition(" ")[2]] = size
            found.append(target)
    found += _plain_targets(bench, stack)
    reply = _nginx(bench, stack, sizes)
    if reply:
        found.append(Target(NGINX_JSON, reply, Request("/json", *as_json), bench.cores.client))
        found.append(Target(NGINX_BINARY, reply, Request("/binary", *binary), bench.cores.client))
    return found


def _nginx(bench: Bench, stack: ExitStack, sizes: dict[str, int]) -> Server | None:
    if nginx.find() is None:
        for name in (NGINX_JSON, NGINX_BINARY):
            bench.results.fail(name, "nginx is not installed")
        return None
    started = servers.fixed_reply(bench.work / "nginx", bench.cores.server, sizes["JSON"], sizes["binary"])
    return bench.start(stack, started, NGINX_JSON, NGINX_BINARY)


def _plain_targets(bench: Bench, stack: ExitStack) -> list[Target]:
    targets = []
    artifact = bench.model("tiny") / "model.onnx"
    variants: tuple[tuple[str, str, list[str]], ...] = (
        (PLAIN, "/predict", []),
        (QUIET, "/predict", ["--no-access-log"]),
    )
    for number, (name, path, options) in enumerate((*variants, (ASYNC, "/predict-async", ["--no-access-log"]))):
        started = servers.plain(artifact, bench.cores.server, bench.log(f"plain_{number}"), options)
        server = bench.start(stack, started, name)
        request = Request(path, "application/json", bench.requests("plain.json"))
        target = server and Target(name, server, request, bench.cores.client)
        if target and bench.check(target, "tiny"):
            targets.append(target)
    return targets
