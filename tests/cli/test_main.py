"""The program itself: how fast it starts, how it tells errors, and whether its examples work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from forwardpass import __version__
from forwardpass.cli.main import app

ROOT = Path(__file__).parents[2]
COMMANDS = [command.name for command in typer.main.get_group(app).commands.values()]
HEAVY = ("numpy", "onnxruntime", "msgspec", "yaml", "starlette", "uvicorn", "rich", "PIL", "tokenizers", "asyncio")


def forwardpass(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forwardpass", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=30, check=False)


def examples(name: str) -> list[list[str]]:
    text = CliRunner().invoke(app, [name, "--help"], terminal_width=200).output
    return [shlex.split(line) for line in re.findall(r"^ +forwardpass (.*)$", text, re.MULTILINE)]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['forwardpass', '--help']\n"
        "from forwardpass.cli import main\n"
        "try: main()\n"
        f"finally: print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage: forwardpass" in result.stdout
    assert "heavy: []" in result.stdout


def test_version() -> None:
    result = forwardpass("--version")
    assert (result.returncode, result.stdout) == (0, f"forwardpass {__version__}\n")


def test_an_error_of_ours_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    (tmp_path / "model.yaml").write_text("limits: [\n  timeout: 3\n")
    result = forwardpass("predict", str(tmp_path), "--text", "a")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("forwardpass: ")
    assert result.stderr.count("\n") == 1
    assert "model.yaml" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["serve"], ["serv"], ["serve", ".", "--prot", "1"], ["serve", ".", "--port", "x"]]
)
def test_wrong_arguments_are_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example(name: str) -> None:
    found = examples(name)
    assert found
    assert all(line[0] == name for line in found)


def test_the_first_example_of_run_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others are about places that only their reader has."""
    monkeypatch.chdir(ROOT)
    *line, output = examples("run")[0]
    result = CliRunner().invoke(app, [*line, str(tmp_path / output)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / output).read_text().startswith("priority,split,")


READERS_OWN = ("serve", "run", "import", "tune", "optimize", "calibrate", "bundle", "publish", "agent")


@pytest.mark.parametrize("line", [line for name in COMMANDS if name not in READERS_OWN for line in examples(str(name))])
def test_the_examples_work(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, line, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip()
