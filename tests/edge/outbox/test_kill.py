from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.edge.outbox import writer
from tests.edge.outbox.cloud import Cloud

from forwardpass.edge.outbox import Outbox, Uploader

SLOW = 50


@pytest.mark.parametrize("kills", [10, pytest.param(SLOW, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_a_device_killed_at_any_point_loses_and_doubles_nothing(taking: Cloud, tmp_path: Path, kills: int) -> None:
    """While it puts and uploads. What it said was put arrives, once; what it did not say arrives at most once."""
    folder = tmp_path / f"killed-{kills}-{tmp_path.parent.name}"
    folder.mkdir()
    draw = random.Random(kills)
    said: list[int] = []
    for number in range(kills):
        said += run_and_kill(folder, taking.url, 100_000 * number, draw.randint(1, 60), draw.random() * 0.005)
    asyncio.run(drain(folder, taking.url))
    arrived = Counter(entry["body"]["n"] for entry in taking.entries(folder.name))
    assert len(said) >= kills
    assert set(said) <= set(arrived)
    assert max(arrived.values()) == 1


def run_and_kill(folder: Path, url: str, first: int, puts: int, pause: float) -> list[int]:
    """The numbers that a writer said it had put, until it was killed after so many of them, and a moment."""
    command = [sys.executable, str(Path(writer.__file__)), str(folder), url, str(first)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        lines = [process.stdout.readline() for _ in range(puts)]
        time.sleep(pause)  # into the next put, or an upload
        process.kill()
        lines += process.stdout.readlines()
    process.wait()
    assert lines[0], "the writer did not start"
    return [int(line) for line in lines if line.endswith(b"\n")]


async def drain(folder: Path, url: str) -> None:
    outbox = Outbox(folder / "outbox.sqlite")
    await outbox.open()
    await Uploader(outbox, url, folder.name).drain()
    counts = await outbox.counts()
    assert counts["bytes"] == 0
    assert "damaged_files" not in counts["counts"]
    await outbox.close()
