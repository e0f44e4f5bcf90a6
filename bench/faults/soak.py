"""All example models through all doors at once, for long: every answer is compared with the local engine's.

First each request by itself, so that its batch is the one the local engine ran: equal bits, where a
door carries bits (JSON carries the shortest decimal that reads back as the same number). Then all
together, in batches of any size: equal texts, and numbers as close as kernels of another batch size
leave them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench.faults.fault import Trial, unaccounted, unexplained, why
from bench.faults.figure import Figure
from bench.faults.watch import Watch
from bench.processes import Server, free_port
from forwardpass import load
from forwardpass.cli.bench_requests import columns_of, in_requests, prepare, read_data
from forwardpass.loadtest import GrpcTarget, HttpTarget, Result, Target, closed, http_request, opened, run
from forwardpass.server.tensors import array_from_bytes
from forwardpass.types import Array, Columns, DType, Signature

EXAMPLES = Path("examples/models")
DOORS = ("v2-json", "v2-binary", "v1", "grpc")
RATE = 25.0  # requests per second of each door of each model
CLOSE = 1e-4  # of the largest value of an output
HOUR = 3600.0
MOST_SEEN = 4096  # answers remembered by their bytes
NOISE = 1.0  # MB per hour that no soak of this length can tell from nothing
Answer = Mapping[str, Array]


@dataclass
class Expected:
    """The local engine's answer to each request of a target, and how the server's compared."""

    answers: Sequence[Columns]
    read: Any  # (headers, body) to an answer
    seen: dict[tuple[int, bytes], bool] = field(default_factory=dict)
    exact: int = 0
    close: int = 0

    def check(self, index: int, status: int, headers: dict[str, str], body: bytes) -> bool:
        """Whether it is the answer to request ``index``; the same bytes are compared once."""
        key = index, body
        if key not in self.seen:
            got = self.read(headers, body)
            if not same(got, self.answers[index], CLOSE):
                return False
            if len(self.seen) >= MOST_SEEN:
                self.seen.clear()
            self.seen[key] = same(got, self.answers[index], 0.0)
        self.exact += self.seen[key]
        self.close += not self.seen[key]
        return True


def same(got: Answer, expected: Columns, tolerance: float) -> bool:
    """Equal names, shapes and texts, and numbers that differ by at most this share of the largest."""
    if got.keys() != expected.keys():
        return False
    for name, right in expected.items():
        values = got[name]
        if values.size != right.size:
            return False
        if right.dtype.kind in "OSU":
            if list(map(_text, values.ravel().tolist())) != list(map(_text, right.ravel().tolist())):
                return False
            continue
        numbers, wanted = values.astype(right.dtype).ravel(), right.ravel()
        if not (
            np.array_equal(numbers, wanted, equal_nan=wanted.dtype.kind == "f") or _close(numbers, wanted, tolerance)
        ):
            return False
    return True


def measure(trial: Trial) -> list[Figure]:
    grpc = free_port()
    with trial.serve(EXAMPLES, name="soak", grpc_port=grpc) as server:
        loads = targets(server, grpc)
        alone = run(_alone(loads))
        exact, close = (sum(getattr(item, name) for _, item in loads.values()) for name in ("exact", "close"))
        seconds = trial.lasts(1800, 3)
        with Watch(server.pid, every=min(5.0, seconds / 40)) as watch:
            mixed = run(_mixed(loads, seconds))
    both = [*alone, *mixed]
    wrong = sum(result.errors["wrong answer"] for result in both)
    other = sum(unexplained(result, "wrong answer") + unaccounted(result) + result.refused.count for result in both)
    reasons = " ".join(filter(None, map(why, both)))[:500]
    answered = sum(result.ok for result in mixed)
    total = sum(item.exact for _, item in loads.values()) - exact
    return [
        Figure("wrong answers", wrong, "", 0, note=f"{answered} answered through {len(loads)} doors of models, "
               f"{total / max(1, answered):.1%} with equal bits. {reasons}"),
        Figure("answers of the same batch whose bits differ", close, "", 0, note=f"{exact} compared"),
        Figure("requests that failed or were refused", other, "", 0),
        *_slopes(watch, trial),
    ]  # fmt: skip


def targets(server: Server, grpc: int) -> dict[str, tuple[Target, Expected]]:
    """Every door of every example model."""
    base = f"http://127.0.0.1:{server.port}"
    found: dict[str, tuple[Target, Expected]] = {}
    for folder in sorted(item for item in EXAMPLES.iterdir() if item.is_dir()):
        name = folder.name
        engine = load(folder, threads=1)
        signature = engine.signature
        sample = next(file for file in sorted(folder.iterdir()) if file.stem == "sample")
        parts = in_requests(columns_of(read_data(str(sample)), signature), signature, 1)
        answers = [engine.predict(part) for part in parts]
        for door in DOORS:
            requests = prepare(door, base, name, parts, signature)
            read = partial(READERS[door], signature)
            target = (
                GrpcTarget(door, requests, address=f"127.0.0.1:{grpc}")
                if door == "grpc"
                else _http(door, requests, base)
            )
            found[f"{name} {door}"] = target, Expected(answers, read)
        if raw := _raw(base, name, signature, parts):
            found[f"{name} raw"] = _http("raw", raw, base), Expected(answers, partial(_read_v1, signature))
        engine.close()
    return found


def _http(door: str, requests: Sequence[bytes], base: str) -> HttpTarget:
    return HttpTarget(door, requests, url=base)


def _raw(base: str, name: str, signature: Signature, parts: Sequence[Columns]) -> list[bytes]:
    """The one text or image that a model takes, as the body itself."""
    kinds = {"text": "text/plain", "image": "image/png"}
    if len(signature.inputs) > 1 or signature.inputs[0].type not in kinds:
        return []
    kind = kinds[signature.inputs[0].type]
    values = [part[signature.inputs[0].name][0] for part in parts]
    bodies = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return [http_request(f"{base}/v1/models/{name}:predict", body, {"content-type": kind}) for body in bodies]


async def _alone(loads: Mapping[str, tuple[Target, Expected]]) -> list[Result]:
    """Every door by itself, one caller."""
    return [await closed(target, 1, 0.1, check=expected.check) for target, expected in loads.values()]


async def _mixed(loads: Mapping[str, tuple[Target, Expected]], seconds: float) -> list[Result]:
    everybody = (
        opened(target, RATE, seconds, check=expected.check, connections=2, seed=seed)
        for seed, (target, expected) in enumerate(loads.values())
    )
    return list(await asyncio.gather(*everybody))


def _slopes(watch: Watch, trial: Trial) -> list[Figure]:
    """What memory grows by, less twice the standard error: what is left is no noise."""
    figures = []
    for series in watch.lived():
        slope, error = (value * HOUR / 1e6 for value in series.slope())
        held = f"{slope:+.2f} MB per hour, standard error {error:.2f}; {series.bytes[-1] / 1e6:.1f} MB at the end"
        what = f"slope of the memory of a {series.role}, less two standard errors"
        figures.append(Figure(what, slope - 2 * error, "MB/h", NOISE, timing=trial.quick, note=held))
    return figures


# Answers, as each door writes them


def _read_v2(signature: Signature, headers: dict[str, str], body: bytes) -> Answer:  # noqa: ARG001
    return {item["name"]: np.array(item["data"]) for item in orjson.loads(body)["outputs"]}


def _read_binary(signature: Signature, headers: dict[str, str], body: bytes) -> Answer:  # noqa: ARG001
    split = int(headers["inference-header-content-length"])
    answer, rest, found = orjson.loads(body[:split]), memoryview(body)[split:], {}
    for item in answer["outputs"]:
        size = item["parameters"]["binary_data_size"]
        found[item["name"]] = _raw_array(item["name"], item["datatype"], item["shape"], rest[:size])
        rest = rest[size:]
    return found


def _read_v1(signature: Signature, headers: dict[str, str], body: bytes) -> Answer:  # noqa: ARG001
    rows = orjson.loads(body)["predictions"]
    names = [spec.name for spec in signature.outputs]
    if len(names) == 1 and not isinstance(rows[0], dict):
        return {names[0]: np.array(rows)}
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _read_grpc(signature: Signature, headers: dict[str, str], body: bytes) -> Answer:  # noqa: ARG001
    from forwardpass.server.grpc.generated import inference_pb2

    answer = inference_pb2.ModelInferResponse.FromString(body)
    pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return {item.name: _raw_array(item.name, item.datatype, item.shape, memoryview(raw)) for item, raw in pairs}


def _raw_array(name: str, datatype: str, shape: Sequence[int], raw: memoryview) -> Array:
    return array_from_bytes(name, DType(datatype), tuple(shape), raw)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _close(got: Array, expected: Array, tolerance: float) -> bool:
    if not tolerance or expected.dtype.kind != "f":
        return False
    return bool(np.abs(got - expected).max(initial=0.0) <= tolerance * np.abs(expected).max(initial=0.0))


READERS = {"v2-json": _read_v2, "v2-binary": _read_binary, "v1": _read_v1, "grpc": _read_grpc}
