"""The short form of every fuzz target: a few thousand inputs from a fixed seed, in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = {"fast_lane": 700, "v2_json": 6000, "v2_binary": 4000, "messages": 8000}


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not built for this platform")
@pytest.mark.parametrize("target", RUNS)
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"tests.fuzz.{target}", f"-runs={RUNS[target]}", "-seed=1"]
    options = [f"-artifact_prefix={tmp_path}/", str(tmp_path / "corpus")]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert f"Done {RUNS[target]} runs" in ended.stderr
