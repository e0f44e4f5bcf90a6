"""What systemd is given and told, against a socket that stands in its place."""

from __future__ import annotations

import configparser
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from forwardpass.edge import systemd
from forwardpass.edge.outputs.actions import FLUSH
from forwardpass.edge.systemd import Notifier, unit


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5.0)
        yield sock


@pytest.fixture
def system_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and Forwardpass lie where everybody sees them, wherever these tests do."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/env")
    monkeypatch.setattr(systemd, "PACKAGE", Path("/opt/forwardpass/systemd.py"))


def service_of(text: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string(text)
    return parser["Service"]


def test_the_unit_runs_this_agent_again_and_again(tmp_path: Path) -> None:
    text = unit(tmp_path / "my home", ["--port", "0"], 10.0)
    service = service_of(text)
    words = shlex.split(service["ExecStart"])
    assert words == [
        *(sys.executable, "-m", "forwardpass.device", "agent"),
        *("--home", str(tmp_path / "my home"), "--port", "0"),
    ]
    assert (service["Restart"], service["Type"]) == ("always", "notify")
    assert "StartLimitIntervalSec=0" in text, "else it is given up after a few starts that failed"
    assert int(service["WatchdogSec"]) > 0
    assert service["ProtectSystem"] == "strict"


@pytest.mark.parametrize("drain", [0.5, 10.0, 300.0])
def test_it_is_not_killed_while_it_stops(drain: float) -> None:
    service = service_of(unit(Path("/var/lib/forwardpass"), [], drain))
    assert int(service["TimeoutStopSec"]) > 2 * drain + 4 * FLUSH


@pytest.mark.usefixtures("system_wide")
def test_a_home_under_var_lib_is_the_units_own() -> None:
    service = service_of(unit(Path("/var/lib/motors/left"), [], 1.0))
    assert (service["DynamicUser"], service["StateDirectory"]) == ("yes", "motors/left")
    assert "User" not in service
    assert (service["ProtectHome"], service["PrivateTmp"]) == ("yes", "yes")


@pytest.mark.usefixtures("system_wide")
@pytest.mark.parametrize("home", ["/var/lib/my home", "/var/lib/100%", "/var/lib", "/var/lib/../tmp", "/srv/motors"])
def test_any_other_home_is_named_as_it_is(home: str) -> None:
    service = service_of(unit(Path(home), [], 1.0))
    assert "StateDirectory" not in service
    assert shlex.split(service["ReadWritePaths"]) == [os.path.normpath(home).replace("%", "%%")]


def test_the_owner_of_the_home_runs_the_agent(tmp_path: Path) -> None:
    assert service_of(unit(tmp_path, [], 1.0))["User"] == tmp_path.owner()
    assert service_of(unit(tmp_path / "not yet", [], 1.0))["User"] == pwd.getpwuid(os.geteuid()).pw_name


@pytest.mark.usefixtures("system_wide")
@pytest.mark.parametrize(("folder", "hidden"), [("/home/ada", "ProtectHome"), ("/var/tmp", "PrivateTmp")])
def test_what_lies_where_units_do_not_look_is_shown_to_this_one(
    monkeypatch: pytest.MonkeyPatch, folder: str, hidden: str
) -> None:
    def service(*arguments: str) -> Mapping[str, str]:
        return service_of(unit(Path("/var/lib/forwardpass"), arguments, 1.0))

    bundle = service("--bundle", f"{folder}/motor-1.bundle")
    with monkeypatch.context() as patch:
        patch.setattr(systemd, "PACKAGE", Path(folder) / "systemd.py")
        package = service()
    monkeypatch.setattr(sys, "executable", f"{folder}/venv/bin/python")
    for made in (bundle, package, service()):
        assert made[hidden] == "no"
        assert "DynamicUser" not in made, "which would hide it all the same"
    assert service_of(unit(Path(folder) / "home", [], 1.0))[hidden] == "no"


@pytest.mark.usefixtures("system_wide")
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("home", ["/var/lib/forwardpass", "/srv/my home"])
def test_systemd_understands_it(tmp_path: Path, home: str) -> None:
    file = tmp_path / "forwardpass-agent.service"
    file.write_text(unit(Path(home), ["--cloud", "https://example.org/a b?c=%d"], 10.0), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert file.name not in done.stderr


def test_what_systemd_would_expand_is_escaped() -> None:
    text = unit(Path("/var/50%/$HOME"), [], 1.0)
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
