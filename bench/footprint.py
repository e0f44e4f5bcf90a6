"""How long Forwardpass takes until it is ready, and how much memory it holds."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import servers
from bench.bench import Bench, Target
from bench.load import Request
from bench.processes import Memory
from bench.results import FAILURES, Summary
from bench.table import Row

EXAMPLES = Path("examples/models")
FOUR = ("breast-cancer", "digits", "fraud", "task-priority")


def start(bench: Bench) -> list[Row]:
    """Seconds from the start of the process until ``/readyz`` answers 200, with four of the example models."""
    measure = "server ready, from process start, four models"
    seconds = []
    try:
        with TemporaryDirectory() as folder:
            for name in FOUR:
                (Path(folder) / name).symlink_to((EXAMPLES / name).resolve(strict=True))
            for number in range(bench.plan.starts + 1):
                with servers.forwardpass(Path(folder), bench.cores.server, bench.log("start")) as server:
                    if number:  # the first one reads the files from the disk
                        seconds.append(server.started_in)
    except FAILURES as reason:
        return [Row(measure, None, "s", 1.0, False, str(reason))]
    return [
        Row(measure, Summary.of(seconds), "s", 1.0, False, f"{len(seconds)} starts on one core, files in the cache")
    ]


def memory(bench: Bench) -> list[Row]:
    """Megabytes of all processes of the server after load on the tiny model (PSS)."""
    measure = "memory, front and one worker, tiny model"
    request = Request("/v2/models/tiny/infer", "application/json", bench.requests("tiny.json"))
    totals: list[float] = []
    note = ""
    try:
        for _ in range(bench.plan.rounds):
            with ExitStack() as stack:
                started = servers.forwardpass(bench.model("tiny"), bench.cores.server, bench.log("memory"))
                target = Target("memory", stack.enter_context(started), request, bench.cores.client)
                bench.measure(target, 64, bench.plan.warm)
                used = list(target.server.memory().values())
            totals.append(sum(process.shared for process in used))
            note = describe(used)
    except FAILURES as reason:
        return [Row(measure, None, "MB", 130, False, str(reason))]
    return [Row(measure, Summary.of(totals), "MB", 130, False, note)]


def describe(used: list[Memory]) -> str:
    """The processes one by one, in the order in which they started."""
    each = ", ".join(f"{process.shared:.0f}" for process in used)
    private, resident = sum(process.private for process in used), sum(process.resident for process in used)
    return (
        f"PSS of all {len(used)} processes after load ({each}; the front first, the workers' template included); "
        f"private {private:.0f} MB, RSS summed {resident:.0f} MB"
    )
