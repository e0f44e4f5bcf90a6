"""A server tunes its models while nobody asks anything, and lets it be at once when somebody does."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import artifacts
from tests.server.process import Server, running

from forwardpass.registry.tuned import find_tuned

pytestmark = pytest.mark.slow
QUIET = "0.3"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def ask(server: Server) -> None:
    body = b'{"instances": [[1.0, 2.0]]}'
    request = urllib.request.Request(f"{server.url}/v1/models/model-under-test:predict", body)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def measuring() -> set[int]:
    """Processes that run ``forwardpass tune``, on a system that shows them as files."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"tune" in words and b"--cores" in words:
            found.add(int(folder.name))
    return found


def wait_for(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_in_quiet_times_and_once(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx", inputs=2)
    with running([folder], "--tune-after", QUIET, "--cores", "1") as server:
        wait_for(lambda: find_tuned(artifact) is not None)
        wait_for(lambda: "was tuned for this machine" in server.log.read_text())
        ask(server)
    with running([folder], "--tune-after", QUIET, "--cores", "1") as server:
        time.sleep(1)
        assert not measuring()
        ask(server)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are files on Linux")
def test_a_request_and_the_end_stop_it(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx", inputs=2)
    with running([folder], "--tune-after", QUIET, "--cores", "1") as server:
        wait_for(measuring)
        first = measuring()
        ask(server)
        wait_for(lambda: not (measuring() & first), 10)
        wait_for(measuring)  # quiet again
    assert not measuring()
    assert find_tuned(artifact) is None
