"""What a gateway costs: a ``remote:`` model in front of another server, against asking that server directly.

The tiny model, V2 JSON and binary, rate at 64 connections and latency at one; nginx as a plain reverse proxy before
the same server is the yardstick. All servers are on one core and the load on another: a rate is one over what all of
them together spend on a request. A proxy passes requests on one by one, the gateway joins those that wait.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from bench import nginx, servers
from bench.bench import Bench, Target
from bench.load import Request
from bench.models import HEADER_LENGTH_FILE
from bench.processes import Server
from bench.results import Results, Summary
from bench.table import Row
from bench.tiny import CONNECTIONS, INFER, ONE

DIRECT, PROXY, GATEWAY = "the server directly", "nginx before it", "gateway before it"
KINDS = ("JSON", "binary")


def run(bench: Bench) -> list[Row]:
    with ExitStack() as stack:
        targets = _targets(bench, stack)
        for _ in range(bench.plan.rounds):
            for kind in KINDS:
                own = [target for target in targets if target.name.endswith(kind)]
                for target in own:
                    bench.results.attempt(target.name, partial(bench.measure, target, CONNECTIONS, bench.plan.fast))
                for target in own:
                    bench.results.attempt(target.name + ONE, partial(bench.measure, target, 1, bench.plan.fast))
    return rows(bench.results)


def rows(results: Results) -> list[Row]:
    """The measures, from whatever was measured."""
    return [
        row for kind in KINDS for row in (_rate(results, kind), _against_proxy(results, kind), _added(results, kind))
    ]


def name(place: str, kind: str) -> str:
    return f"Forwardpass, tiny, {place}, {kind}"


def _rate(results: Results, kind: str) -> Row:
    measure, unit = f"gateway, tiny model, V2 {kind}, 64 connections", "of the server's rate"
    ours, other = name(GATEWAY, kind), name(DIRECT, kind)
    if why := results.why_not(ours, other):
        return Row(measure, None, unit, 0.4, True, why)
    own = results.summary(ours, "cpu_per_request").median * 1e6
    return Row(measure, results.ratio((ours, "rate"), (other, "rate")), unit, 0.4, True, f"its own CPU: {own:.3g} µs")


def _against_proxy(results: Results, kind: str) -> Row:
    measure, unit = f"gateway, tiny model, V2 {kind}, 64 connections", "of nginx's rate before it"
    ours, other = name(GATEWAY, kind), name(PROXY, kind)
    if why := results.why_not(ours, other):
        return Row(measure, None, unit, 0.5, True, why)
    own = results.summary(other, "cpu_per_request").median * 1e6
    return Row(
        measure, results.ratio((ours, "rate"), (other, "rate")), unit, 0.5, True, f"nginx's own CPU: {own:.3g} µs"
    )


def _added(results: Results, kind: str) -> Row:
    """Milliseconds that the gateway adds to the median at one connection, round by round."""
    measure = f"gateway, tiny model, V2 {kind}, 1 connection, p50 added"
    ours, direct, proxy = (name(place, kind) + ONE for place in (GATEWAY, DIRECT, PROXY))
    if why := results.why_not(ours, direct):
        return Row(measure, None, "ms", 1.0, False, why)
    note = ""
    if results.why_not(proxy) is None:
        note = f"nginx adds {_more(results, proxy, direct).median:.3g} ms"
    return Row(measure, _more(results, ours, direct), "ms", 1.0, False, note)


def _more(results: Results, one: str, other: str) -> Summary:
    pairs = zip(results.loads[one], results.loads[other], strict=True)
    return Summary.of([1e3 * (a.p50 - b.p50) for a, b in pairs])


def _targets(bench: Bench, stack: ExitStack) -> list[Target]:
    """Every server, started and checked, in the order in which a round measures them."""
    everywhere = [name(place, kind) for place in (DIRECT, PROXY, GATEWAY) for kind in KINDS]
    far = bench.start(
        stack, servers.forwardpass(bench.model("tiny"), bench.cores.server, bench.log("far")), *everywhere
    )
    if far is None:
        return []
    found = {DIRECT: far, PROXY: _proxy(bench, stack, far), GATEWAY: _gateway(bench, stack, far)}
    length = int((bench.work / "requests" / HEADER_LENGTH_FILE).read_text())
    requests = {
        "JSON": Request(INFER, "application/json", bench.requests("tiny.json")),
        "binary": Request(INFER, "application/octet-stream", bench.requests("tiny.bin"), length),
    }
    targets = [
        Target(name(place, kind), server, request, bench.cores.client)
        for place, server in found.items() if server is not None
        for kind, request in requests.items()
    ]  # fmt: skip
    return [target for target in targets if bench.check(target, "tiny")]


def _gateway(bench: Bench, stack: ExitStack, far: Server) -> Server | None:
    folder = bench.work / "gateway"
    (folder / "tiny").mkdir(parents=True, exist_ok=True)
    (folder / "tiny" / "model.yaml").write_text(f"remote: {{urls: ['http://127.0.0.1:{far.port}']}}\n")
    started = servers.forwardpass(folder, bench.cores.server, bench.log("gateway"))
    return bench.start(stack, started, *(name(GATEWAY, kind) for kind in KINDS))


def _proxy(bench: Bench, stack: ExitStack, far: Server) -> Server | None:
    names = [name(PROXY, kind) for kind in KINDS]
    if nginx.find() is None:
        for one in names:
            bench.results.fail(one, "nginx is not installed")
        return None
    return bench.start(stack, servers.proxy(bench.work / "nginx_proxy", bench.cores.server, far.port), *names)
