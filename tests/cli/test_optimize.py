"""``forwardpass optimize`` as its user sees it: what it prints, its exit status, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.optimize import candidates, sshd
from typer.testing import CliRunner

from forwardpass.cli.main import app
from forwardpass.cli.optimize import _duration, _share

COMMAND = [sys.executable, "-m", "forwardpass", "optimize"]


def run(*args: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=timeout)


def test_what_is_wrong_is_one_line_with_exit_status_1(tmp_path: Path) -> None:
    model = candidates.parent(tmp_path / "slow", 0.0)
    data = candidates.held_out(tmp_path / "rows.parquet", 50)
    failed = CliRunner().invoke(app, ["optimize", str(model), "--data", str(data), "--label", "lable"])
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr == (
        "forwardpass: --label: there is no column 'lable'. Did you mean 'label'? Columns: x, label\n"
    )


def test_a_target_that_is_no_machine(tmp_path: Path) -> None:
    command = ["optimize", str(tmp_path), "--data", str(tmp_path), "--target", "ssh://edge"]
    failed = CliRunner().invoke(app, command)
    assert failed.exit_code == 1
    assert failed.stderr == (
        "forwardpass: --target 'ssh://edge': it must be local, or a machine that ssh knows: host, user@host or "
        "user@host:port\n"
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(bool(sshd.LACKING), reason=f"OpenSSH is not installed: {', '.join(sshd.LACKING)}")
def test_measured_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = candidates.parent(tmp_path / "slow", 0.0)
    data = candidates.held_out(tmp_path / "rows.parquet", 500)
    with sshd.temporary() as server:
        monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
        target = ["--target", server.name, "--target-command", server.python()]
        done = run(model, "--data", data, "--max-drop", "2%", "--budget", "0.01s", *target, timeout=200)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("The parent is the best: of ")
        assert not list(server.folder.iterdir())
        report = json.loads((tmp_path / "slow-optimized.optimize" / "report.json").read_text())
        assert report["target"] == server.name
        target[-1] = "nosuchpython"
        failed = CliRunner().invoke(app, ["optimize", str(model), "--data", str(data), *target])
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert failed.stderr.startswith(f"forwardpass: {server.name} has no such Python (")
        assert failed.stderr.count("\n") == 1


@pytest.mark.slow
def test_progress_goes_to_stderr_and_the_result_to_stdout(tmp_path: Path) -> None:
    """Budget for nothing: all recipes are named, and the parent is the best."""
    model = candidates.parent(tmp_path / "slow", 0.0)
    data = candidates.held_out(tmp_path / "rows.parquet", 500)
    done = run(model, "--data", data, "--max-drop", "2%", "--budget", "0.01s")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The parent is the best: of ")
    assert f"Report: {tmp_path}/slow-optimized.optimize/report.html" in done.stdout
    assert "not tried: " in done.stderr


@pytest.mark.slow
def test_events_for_programs(tmp_path: Path) -> None:
    model = candidates.parent(tmp_path / "slow", 0.0)
    data = candidates.held_out(tmp_path / "rows.parquet", 500)
    done = run(model, "--data", data, "--max-drop", "2%", "--budget", "0.01s", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert events[0]["progress"]["entry"]["passed"] is False
    assert events[-1]["done"]["metric"] == "accuracy"
    assert events[-1]["done"]["winner"] == ""


@pytest.mark.parametrize(("text", "share"), [("0.5%", 0.005), ("2%", 0.02), ("0.01", 0.01)])
def test_an_allowance_is_a_percentage_or_a_share(text: str, share: float) -> None:
    assert _share(text) == pytest.approx(share)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("7", 7)])
def test_times(text: str, seconds: float) -> None:
    assert _duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1m", "nan", "ten", "0s"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="90s, 10m or 2h"):
        _duration(text)


def test_an_allowance_that_is_none() -> None:
    with pytest.raises(typer.BadParameter, match="no percentage"):
        _share("half")
