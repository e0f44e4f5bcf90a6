"""``kill -9`` of anything at any moment, then --resume: the same bytes as an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.models import BAD, judging

KILLS = 60
ROWS, PART = 3000, 100
COMMAND = [sys.executable, "-m", "forwardpass", "run"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_again_and_again_the_result_is_the_same(tmp_path: Path) -> None:
    model = judging(tmp_path / "judge", delay=0.02)
    source = tmp_path / "in.parquet"
    values = [float(n % 50) for n in range(ROWS)]
    pq.write_table(pa.table({"id": range(ROWS), "x": values}), source, row_group_size=170)
    assert start(model, source, tmp_path / "calm").wait(60) == 0
    draw = random.Random(7)
    killed = rounds = 0
    while killed < KILLS:
        output = tmp_path / f"stormy-{rounds}"
        rounds += 1
        killed += storm(model, source, output, draw, KILLS - killed)
        assert contents(output) == contents(tmp_path / "calm")
        assert contents(rejected(output)) == contents(rejected(tmp_path / "calm"))
    assert sum(value == BAD for value in values) == sum(
        len(text.splitlines()) for text in contents(rejected(output)).values()
    )


def storm(model: Path, source: Path, output: Path, draw: random.Random, most: int) -> int:
    """Run a job to its end, killing its parent or a worker at random moments; how many were killed."""
    killed = 0
    for _ in range(200):
        process = start(model, source, output)
        end = time.monotonic() + draw.uniform(0.3, 2.5)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        while process.poll() is None and killed < most:
            victims = [process.pid, *descendants(process.pid)]
            victim = draw.choice(victims)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                killed += 1
            if victim == process.pid:
                break
            time.sleep(draw.uniform(0.01, 0.6))
        if process.wait(60) == 0:
            return killed
    raise AssertionError("it never ended")


def start(model: Path, source: Path, output: Path) -> subprocess.Popen[bytes]:
    asked = [
        str(model),
        str(source),
        str(output),
        "--part-rows",
        str(PART),
        "--workers",
        "2",
        "--resume",
        "--keep",
        "id",
    ]
    return subprocess.Popen([*COMMAND, *asked], stderr=subprocess.DEVNULL)


def descendants(pid: int) -> list[int]:
    """All processes that a process has started, and those that they have."""
    with suppress(FileNotFoundError, ProcessLookupError):
        children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [*children, *(below for child in children for below in descendants(child))]
    return []


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def rejected(output: Path) -> Path:
    return output.parent / f"{output.name}.job" / "rejected"
