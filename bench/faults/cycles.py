"""A model is loaded and unloaded over the API, again and again, while another one answers requests."""

from __future__ import annotations

import asyncio
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from tests import artifacts

from bench.faults import numbers, watch
from bench.faults.fault import Trial, unaccounted, unexplained, why
from bench.faults.figure import Figure
from bench.processes import Server, tree
from forwardpass.loadtest import HttpTarget, Result, opened, run

RATE = 100.0  # requests per second of the other model
COUNT, WARM = 1000, 20
SETTLE = 1.0  # seconds: processes that ended are gone, arrays that looked into shared memory are freed


@dataclass(frozen=True)
class Held:
    """What the processes of a server hold, by role; ``segments`` is of all of them together."""

    resident: dict[str, int]
    files: dict[str, int]
    segments: int

    @classmethod
    def by(cls, front: int) -> Held:
        roles = {pid: watch.role(pid, front) for pid in tree(front)}
        resident = {name: watch.resident(pid) for pid, name in roles.items()}
        files = {name: watch.open_files(pid) for pid, name in roles.items()}
        return cls(resident, files, watch.shared_segments(front))


def measure(trial: Trial) -> list[Figure]:
    repository = trial.work / "cycles"
    shutil.rmtree(repository, ignore_errors=True)
    artifacts.affine(repository / "cycled" / "model.onnx")
    artifacts.identity(repository / "steady" / "model.onnx", shape=("N", 1))
    with trial.serve(repository, name="cycles") as server:
        target = numbers.target(server, "steady")
        warm = run(_during(target, lambda: _cycles(server, 3 if trial.quick else WARM)))[1]
        alone = run(_alone(target, 1.5 if trial.quick else 20.0))
        before = Held.by(server.pid)
        count = 10 if trial.quick else COUNT
        if trial.seconds:
            count = max(1, int(trial.seconds / warm * (3 if trial.quick else WARM)))
        result, took = run(_during(target, lambda: _cycles(server, count)))
        run(asyncio.sleep(SETTLE))
        after = Held.by(server.pid)
    return [*_held(before, after, count, trial), *_other(alone, result, took / count)]


def _held(before: Held, after: Held, count: int, trial: Trial) -> list[Figure]:
    bound = 1.1 if trial.quick else 1.02
    return [
        *(Figure(f"memory of the {role}", after.resident[role] / start, "of the start", bound,
                 note=f"{start / 1e6:.1f} MB before, {after.resident[role] / 1e6:.1f} after {count} cycles")
          for role, start in before.resident.items()),
        *(Figure(f"open files of the {role}, more than at the start", after.files[role] - start, "", 0,
                 note=f"{start} before") for role, start in before.files.items()),
        Figure("shared memory segments left", after.segments - before.segments, "", 0,
               note=f"{before.segments} before, of the model that stays"),
    ]  # fmt: skip


def _other(alone: Result, result: Result, each: float) -> list[Figure]:
    p99 = [run.latency.percentile(99) * 1e3 for run in (alone, result)]
    return [
        Figure("p99 of the other model", p99[1] / p99[0], "of that without", 1.2, timing=True,
               note=f"{p99[0]:.2f} ms without, {p99[1]:.2f} ms with; median {alone.latency.percentile(50) * 1e3:.2f} "
                    f"and {result.latency.percentile(50) * 1e3:.2f}; a cycle takes {each * 1e3:.0f} ms"),
        Figure("failed requests of the other model", unexplained(result) + unaccounted(result) + result.refused.count,
               "", 0, note=f"{result.ok} answered. {why(result)}"),
    ]  # fmt: skip


async def _alone(target: HttpTarget, seconds: float) -> Result:
    return await opened(target, RATE, seconds, check=numbers.right)


async def _during(target: HttpTarget, work: Callable[[], float]) -> tuple[Result, float]:
    """Load on the target in pieces of a second until ``work`` has ended, and the seconds that took."""
    loop = asyncio.get_running_loop()
    working = loop.run_in_executor(None, work)
    total = await _alone(target, 1.0)
    seed = 0
    while not working.done():
        seed += 1
        piece = await opened(target, RATE, 1.0, check=numbers.right, seed=seed)
        piece.series.clear()
        total.merge(piece)
    return total, await working


def _cycles(server: Server, count: int) -> float:
    """Load, ask and unload so often; the seconds that it took. Raises ``OSError`` where one is refused."""
    import time

    started = time.perf_counter()
    base = f"http://127.0.0.1:{server.port}"
    for _ in range(count):
        _post(f"{base}/v2/repository/models/cycled/unload", b"")
        _post(f"{base}/v2/repository/models/cycled/load", b"")
        _post(f"{base}/v1/models/cycled:predict", b'{"instances":[[%b]]}' % b",".join([b"1"] * 64))
    return time.perf_counter() - started


def _post(url: str, body: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=30) as answer:
        answer.read()
