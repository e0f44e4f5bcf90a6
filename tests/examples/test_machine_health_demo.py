"""The demo of `machine-health`, as a person runs it: every line happens, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.edge.mosquitto import needs_mosquitto

DEMO = Path(__file__).parents[2] / "examples" / "machine_health" / "demo.py"


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_mosquitto
def test_everything_on_the_timeline_happens(tmp_path: Path) -> None:
    pytest.importorskip("tuf", reason="the updates extra is not installed")
    ran = subprocess.run(
        [sys.executable, DEMO], env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin"},
        capture_output=True, text=True, timeout=360, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "NOT SO" not in ran.stdout
    assert "all of it happened" in ran.stdout
    assert list(tmp_path.iterdir()) == []
