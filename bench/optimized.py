"""The text encoder and the image network served as they are, and on OpenVINO in bf16, on one core.

That is what ``forwardpass optimize`` mostly picks for such networks. Their weights are random, so that there is no
accuracy to judge; answers must be within a hundredth of ONNX Runtime's largest value.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import servers
from bench.bench import Bench, Target
from bench.networks import CONNECTIONS, WORDS, request
from bench.table import Row

TARGETS = {"text": 3.0, "image": 5.0}  # times the parent's throughput, where the processor has AMX
FASTER = "backend: {name: openvino, precision: bf16}\n"


def run(bench: Bench) -> list[Row]:
    """The measures of optimised networks."""
    return [_measure(bench, kind) for kind in TARGETS]


def _measure(bench: Bench, kind: str) -> Row:
    parent, faster = f"Forwardpass, {kind}, as it is", f"Forwardpass, {kind}, OpenVINO in bf16"
    with ExitStack() as stack:
        targets = [
            _target(bench, stack, kind, bench.model(kind), parent),
            _target(bench, stack, kind, _faster(bench, kind), faster),
        ]
        for _ in range(bench.plan.rounds):
            for target in filter(None, targets):
                bench.results.attempt(target.name, partial(bench.measure, target, CONNECTIONS, bench.plan.slow))
    what = f"{WORDS[kind]} on OpenVINO in bf16, one core"
    if why := bench.results.why_not(faster, parent):
        return Row(what, None, "x as it is", TARGETS[kind], True, why)
    ratio = bench.results.ratio((faster, "rate"), (parent, "rate"))
    return Row(what, ratio, "x as it is", TARGETS[kind], True, "end to end; the target is for processors with AMX")


def _faster(bench: Bench, kind: str) -> Path:
    """The model's folder with another backend; the model keeps its name."""
    folder = bench.work / "optimized" / kind
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bench.model(kind), folder)
    with (folder / "model.yaml").open("a", encoding="utf-8") as lines:
        lines.write(FASTER)
    return folder


def _target(bench: Bench, stack: ExitStack, kind: str, folder: Path, name: str) -> Target | None:
    log = bench.log(name.lower().replace(" ", "_").replace(",", ""))
    server = bench.start(stack, servers.forwardpass(folder, bench.cores.server, log), name)
    target = server and Target(name, server, request(bench, kind), bench.cores.client)
    return target if target and bench.check(target, kind) else None
