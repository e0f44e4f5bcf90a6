"""SIGTERM and SIGINT end all fronts in peace: what is under way is answered, nothing is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.server.fronts.family import clients, everybody, fronts, needs_proc, sleeper, statistics, until
from tests.server.process import Server, running

pytestmark = needs_proc
STOP = 15.0


def ended_well(server: Server) -> None:
    assert server.process.wait(STOP) == 0
    assert everybody(server) == []
    log = server.log.read_text()
    assert "ERROR" not in log, log
    assert "Traceback" not in log, log


def shared_memory() -> set[str]:
    """All names there but those of others' semaphores."""
    return {entry.name for entry in Path("/dev/shm").iterdir() if not entry.name.startswith("sem.")}


@pytest.mark.parametrize("group", [False, True], ids=["SIGTERM", "SIGINT to all"])
def test_all_fronts_drain(tmp_path: Path, group: bool) -> None:
    sleeper(tmp_path / "sleeper")
    before = shared_memory()
    with running([tmp_path], "--fronts", "2") as server, clients(server, each=2) as ((first, idle), (other, _)):
        assert idle.predict("sleeper").status == 200
        for client in (first, other):
            client.begin("sleeper", 0.3)
        until(lambda: sum(statistics(idle, "sleeper")["batch_reasons"].values()) == 3)
        if group:
            os.killpg(server.pid, signal.SIGINT)  # as a terminal does
        else:
            server.process.terminate()
        for client in (first, other):
            answer = client.receive()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        ended_well(server)
    assert shared_memory() <= before


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_while_they_start(tmp_path: Path, signum: int) -> None:
    sleeper(tmp_path / "sleeper")
    with running([tmp_path], "--fronts", "3", wait=False) as server:
        until(lambda: len(fronts(server)) == 3)
        os.killpg(server.pid, signum)
        ended_well(server)
