"""``forwardpass agent``: the command line hands all of it on to the device's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forwardpass import __version__
from forwardpass.edge.main import main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forwardpass", "agent", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_shows_the_options_and_an_example() -> None:
    done = run("--help")
    assert done.returncode == 0
    for part in ("usage: forwardpass agent", "--home DIR", "--bundle FILE", "--updates URL", "--cloud URL", "example:"):
        assert part in done.stdout, part


def test_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["agent", "--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"forwardpass {__version__}\n"


def test_errors_are_one_line_and_the_exit_code_is_one(tmp_path: Path) -> None:
    done = run("status", "--home", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("forwardpass: no agent runs with the home")
    assert done.stderr.count("\n") == 1


def test_a_word_that_is_not_known_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["agent", "--no-such-flag"])
    assert ended.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err
