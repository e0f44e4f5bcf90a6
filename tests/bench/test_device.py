"""The measures of a device from made-up measurements, and counting pages of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from bench.device import AGENT, SERVER, rates
from bench.load import Load
from bench.pages import resident
from bench.results import Results
from bench.tiny import ONE


def load(rate: float, p50: float) -> Load:
    return Load(int(rate), 1.0, p50, 2 * p50, client_cpu=0.1, server_cpu=0.5)


def test_rate_and_latency_are_against_the_servers_round_by_round() -> None:
    results = Results()
    for slower in (1, 2, 1):  # a slow round slows both
        for name, rate, p50 in ((AGENT, 100, 2e-3), (SERVER, 1000, 1e-3)):
            results.attempt(name, partial(load, rate / slower, 0.1))
            results.attempt(name + ONE, partial(load, 10, p50 * slower))
    found = rates(results)
    assert [row.value.median if row.value else None for row in found] == pytest.approx([0.1, 2.0])
    assert [row.note for row in found] == ["100 a second", "2.00 ms"]


def test_what_failed_is_said() -> None:
    results = Results()
    results.fail(AGENT, "it ended")
    assert "it ended" in rates(results)[0].note


SIZE = 32 << 20
MAPS = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    print(sum(mapped[::4096]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is told which page is which")
def test_pages_that_two_processes_map_count_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(SIZE))
    with ExitStack() as stack:
        command = [sys.executable, "-S", "-c", MAPS, str(file)]
        pair = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n"
        one, other, both = (
            resident(pids) for pids in ([pair[0].pid], [pair[1].pid], [process.pid for process in pair])
        )
    assert one is not None
    assert other is not None
    assert both is not None
    assert one.files > SIZE / 1e6
    assert both.all < one.all + other.all - SIZE / 1e6
