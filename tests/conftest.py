"""Shared fixtures; builders of artifacts are in ``tests/artifacts.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def untuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test runs with what this machine remembers of a model, or has models tuned while it waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FORWARDPASS_TUNE_AFTER", "0")
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder whose name may be a model's name."""
    path = tmp_path / "model-under-test"
    path.mkdir()
    return path
