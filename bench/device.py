"""What a device pays: the time to its first prediction, the memory of agent and worker, rate and latency over HTTP.

``digits`` for the first two, with a bare script of numpy and ONNX Runtime as what cannot be undercut; the tiny model
for the others, against the server on the same core.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import pages, servers
from bench.bench import Bench, Target
from bench.load import Request
from bench.processes import Server, free_port, pinned, serving
from bench.results import FAILURES, Results, Summary
from bench.servers import Started
from bench.table import Row
from bench.tiny import CONNECTIONS, INFER, ONE

DIGITS = Path("examples/models/digits")
AGENT, SERVER = "agent, tiny, JSON", "the server beside it, tiny, JSON"
SETTLE = 1.0  # seconds after the last request at which memory is read
PREDICTIONS = 20
PACK = """
import sys
from pathlib import Path
from forwardpass.edge import build, signing
folder, *models = map(Path, sys.argv[1:])
signing.create_key(folder / "own.key")
for model in models:
    build.build(model, signing.read_private_key(folder / "own.key"), folder / f"{model.name}.bundle")
"""
BARE = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: numpy.zeros((1, 16, 16), numpy.float32)})
print("done", flush=True)
sys.stdin.read()
"""


def run(bench: Bench) -> list[Row]:
    with TemporaryDirectory() as folder:
        device = Device(bench, Path(folder))
        try:
            device.pack(DIGITS, bench.model("tiny"))
            return [*_footprint(device), *_rates(device)]
        except (*FAILURES, OSError, subprocess.SubprocessError, http.client.HTTPException) as reason:
            return [Row("device", None, "", 0, True, f"{type(reason).__name__}: {reason}")]


class Device:
    """A folder with bundles and homes; agents on both cores, or on the server's alone."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self._folder = folder

    def pack(self, *models: Path) -> None:
        command = [sys.executable, "-c", PACK, str(self._folder), *map(str, models)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    def agent(self, model: str, home: str, cores: set[int]) -> Started:
        """Installs the model's bundle where the home is new."""
        port = free_port()
        words = ["--home", str(self._folder / home), "--port", str(port)]
        if not (self._folder / home).exists():
            words += ["--bundle", str(self._folder / f"{model}.bundle"), "--trust", str(self._folder / "own.pub")]
        command = [sys.executable, "-m", "forwardpass.device", "agent", *words]
        return serving(command, port, "/readyz", cores, self.bench.log("agent"))


def _footprint(device: Device) -> list[Row]:
    plan, both = device.bench.plan, device.bench.cores.both
    first, later, totals, bare = [], [], [], []
    note = ""
    for number in range(plan.starts):
        bare.append(_bare(both)[0])
        with device.agent("digits", f"home{number}", both) as server:
            first.append(_first_prediction(server))
        with device.agent("digits", f"home{number}", both) as server:
            later.append(_first_prediction(server))
            if number < plan.rounds:
                total, note = _memory(server)
                totals.append(total)
    floor = f"a bare script: {Summary.of(bare).median:.2f} s; {len(bare)} starts, files in the cache"
    note += f"; a bare script: {_bare(both)[1]}"
    return [
        Row("device: first prediction, from process start", Summary.of(later), "s", 0.6, False, floor),
        Row("device: the same where it installs the bundle first", Summary.of(first), "s", 0.6, False, floor),
        Row("device: memory of agent and worker, digits", Summary.of(totals), "MB", 80, False, note),
    ]


def _first_prediction(server: Server) -> float:
    """Seconds from the start of the process until its answer is here."""
    began = time.perf_counter()
    _predict(server)
    return server.started_in + time.perf_counter() - began


def _predict(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    image = (DIGITS / "sample.png").read_bytes()
    connection.request("POST", "/v1/models/digits:predict", image, {"Content-Type": "image/png"})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status != 200:
        raise http.client.HTTPException(f"{response.status} {content[:200]!r}")


def _memory(server: Server) -> tuple[float, str]:
    """Megabytes after some predictions, and how they are counted."""
    for _ in range(PREDICTIONS):
        _predict(server)
    time.sleep(SETTLE)
    used = server.memory()
    shares = sum(process.shared for process in used.values())
    each = ", ".join(f"{process.resident:.0f}" for process in used.values())
    once = pages.resident(used)
    if once is None:
        return shares, f"PSS, for each page once can be counted by root alone; RSS {each}"
    return once.all, f"each page once, {once.files:.0f} of them files'; PSS {shares:.0f}, RSS {each}"


def _bare(cores: set[int]) -> tuple[float, str]:
    """Seconds until one process with nothing else has run the model, and what memory it holds."""
    began = time.perf_counter()
    command = [sys.executable, "-c", BARE, str(DIGITS / "model.onnx")]
    with pinned(command, cores, {}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # it was started with pipes
        process.stdout.readline()
        seconds = time.perf_counter() - began
        once = pages.resident([process.pid])
    return seconds, "?" if once is None else f"{once.all:.0f}"


# Rate and latency


def _rates(device: Device) -> list[Row]:
    bench = device.bench
    with ExitStack() as stack:
        targets = []
        request = Request(INFER, "application/json", bench.requests("tiny.json"))
        ours = device.agent("tiny", "tiny", bench.cores.server)
        beside = servers.forwardpass(bench.model("tiny"), bench.cores.server, bench.log("beside"))
        for name, started in ((AGENT, ours), (SERVER, beside)):
            server = bench.start(stack, started, name, name + ONE)
            target = server and Target(name, server, request, bench.cores.client)
            if target and bench.check(target, "tiny"):
                targets.append(target)
        for _ in range(bench.plan.rounds):
            for target in targets:
                bench.results.attempt(target.name, partial(bench.measure, target, CONNECTIONS, bench.plan.fast))
                bench.results.attempt(target.name + ONE, partial(bench.measure, target, 1, bench.plan.fast))
    return rates(bench.results)


def rates(results: Results) -> list[Row]:
    """The measures against the server, from whatever was measured."""
    return [
        _against(results, "device: tiny model, V2 JSON, 64 connections", "", "rate", "of the server's", 0.08),
        _against(results, "device: tiny model, 1 connection, p50", ONE, "p50", "times the server's", 3.0),
    ]


def _against(results: Results, measure: str, which: str, fact: str, unit: str, target: float) -> Row:
    ours, other = AGENT + which, SERVER + which
    at_least = fact == "rate"
    if why := results.why_not(ours, other):
        return Row(measure, None, unit, target, at_least, why)
    own = results.summary(ours, fact).median
    note = f"{own:,.0f} a second" if at_least else f"{1e3 * own:.2f} ms"
    return Row(measure, results.ratio((ours, fact), (other, fact)), unit, target, at_least, note)
