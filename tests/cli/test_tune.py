"""``forwardpass tune`` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import artifacts

from forwardpass.registry.tuned import find_tuned

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tune(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forwardpass", "tune", str(folder), "--cores", "1", "--seconds", "0.01", *flags]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=False)


def test_measured_remembered_and_forgotten(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    done = tune(folder)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime, 1 replica of 1 thread" in done.stdout
    assert "used on this machine from now on" in done.stdout
    tuned = find_tuned(artifact)
    assert tuned is not None
    assert (tuned.threads, tuned.replicas) == (1, 1)
    assert "forgotten" in tune(folder, "--forget").stdout
    assert find_tuned(artifact) is None


def test_for_programs_and_not_remembered(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    done = tune(folder, "--json", "--no-remember", "--objective", "latency")
    assert done.stderr == ""
    trials = json.loads(done.stdout)["trials"]
    assert sum(trial["chosen"] for trial in trials) == 1
    assert find_tuned(artifact) is None


def test_what_is_no_model_is_said(folder: Path) -> None:
    done = tune(folder)
    assert done.returncode == 1
    assert done.stderr.startswith("forwardpass: ")
    assert "there is no model in this folder" in done.stderr
