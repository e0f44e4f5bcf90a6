"""``models`` on disk; on a server it is tested in ``test_serve.py``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import artifacts
from typer.testing import CliRunner

from forwardpass.cli.main import app


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for version in ("1", "10", "2"):
        artifacts.identity(tmp_path / "counted" / version / "model.onnx")
    (tmp_path / "counted" / "model.yaml").write_text("description: Has versions\n")
    artifacts.identity(tmp_path / "wrong" / "model.onnx")
    (tmp_path / "wrong" / "model.yaml").write_text("wat: 1\n")
    return tmp_path


def test_versions_by_number_with_their_state(repository: Path) -> None:
    result = CliRunner().invoke(app, ["models", str(repository)])
    shown = [line.split(maxsplit=3) for line in result.stdout.splitlines()[1:]]
    assert [row[:3] for row in shown[:3]] == [["counted", version, "found"] for version in ("1", "2", "10")]
    assert shown[0][3] == "Has versions"
    assert shown[3][:3] == ["wrong", "1", "unusable"]
    assert "unknown key 'wat'" in shown[3][3]


def test_the_same_as_json(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    result = CliRunner().invoke(app, ["models", "--json"])
    items = [json.loads(line) for line in result.stdout.splitlines()]
    assert items[1] == {
        "name": "counted",
        "version": "2",
        "path": "counted/2",
        "state": "found",
        "reason": "",
        "description": "Has versions",
    }


def test_a_path_and_a_server_are_too_much() -> None:
    assert CliRunner().invoke(app, ["models", ".", "--url", "http://h"]).exit_code == 2
