"""Servers are found ready, read, and gone afterwards, with everything they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.processes import Server, StartFailed, end, free_port, pinned, serving, tree

CORES = os.sched_getaffinity(0)
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); time.sleep(60)"


def wait_for_tree(root: int, size: int) -> list[int]:
    until = time.monotonic() + 10
    while len(found := tree(root)) != size:
        assert time.monotonic() < until, f"{len(found)} processes, expected {size}"
        time.sleep(0.01)
    return found


def test_children_that_ignore_a_request_to_stop_are_killed() -> None:
    with pinned([sys.executable, "-c", PARENT], CORES, {}) as process:
        family = wait_for_tree(process.pid, 2)
        assert family[0] == process.pid
    end_of_patience = time.monotonic() + 10
    while alive := [pid for pid in family if pid in tree(pid)]:  # a killed process takes a moment to go
        assert time.monotonic() < end_of_patience, alive


def test_an_error_inside_ends_the_process_too() -> None:
    started = []

    def interrupted() -> None:
        with pinned([sys.executable, "-c", "import time; time.sleep(60)"], CORES, {}) as process:
            started.append(process)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started[0].returncode == -15


def test_a_process_that_ignores_a_request_to_stop_is_killed() -> None:
    code = CHILD.replace("time.sleep", "print('deaf', flush=True); time.sleep")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "deaf\n"
        end(process, patience=0.1)
    assert process.returncode == -9


def test_a_server_is_ready_and_used_what_it_used(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    core = {min(CORES)}
    with serving(command, port, "/", core, tmp_path / "log") as server:
        assert 0 < server.started_in < 30
        assert os.sched_getaffinity(server.pid) == core
        assert server.cpu_seconds() > 0
        (used,) = server.memory().values()
        assert 0 < used.private <= used.shared <= used.resident < 200
    assert Server(port, server.pid, 0).memory() == {}


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with pytest.raises(StartFailed, match="no such model"), serving(command, free_port(), "/", CORES, tmp_path / "log"):
        pass


def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="cannot be started"), serving(["no-such"], 1, "/", CORES, tmp_path / "log"):
        pass
