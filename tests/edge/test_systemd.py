"""What systemd is given and told, against a socket that stands in its place."""

from __future__ import annotations

import configparser
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwardpass.edge.systemd import Notifier, unit


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5.0)
        yield sock


def test_the_unit_runs_this_agent_again_and_again(tmp_path: Path) -> None:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string(unit(tmp_path / "my home", ["--port", "0"]))
    service = parser["Service"]
    words = shlex.split(service["ExecStart"])
    assert words == [
        *(sys.executable, "-m", "forwardpass.device", "agent"),
        *("--home", str(tmp_path / "my home"), "--port", "0"),
    ]
    assert (service["Restart"], service["Type"]) == ("always", "notify")
    assert int(service["WatchdogSec"]) > 0
    assert service["ProtectSystem"] == "strict"
    assert str(tmp_path / "my home") in service["ReadWritePaths"]


def test_what_systemd_would_expand_is_escaped() -> None:
    text = unit(Path("/var/50%/$HOME"), [])
    assert "--home " in text
    assert "/var/50%%/$$HOME" in text


def test_it_is_told_when_the_agent_is_ready_alive_and_stops(manager: socket.socket) -> None:
    told = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    assert told.beat == 15.0
    told.ready("digits 1")
    told.alive()
    told.stopping()
    assert [manager.recv(200) for _ in range(3)] == [b"READY=1\nSTATUS=digits 1", b"WATCHDOG=1", b"STOPPING=1"]


def test_nobody_is_told_where_nobody_asked(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "x"}):
        told = Notifier(environment)
        told.ready("")
        assert told.beat is None


def test_a_watchdog_of_another_process_is_not_answered(manager: socket.socket) -> None:
    address = manager.getsockname()
    other = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert Notifier(other).beat is None
    assert Notifier(other | {"WATCHDOG_PID": str(os.getpid())}).beat == 0.5
