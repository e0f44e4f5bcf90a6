"""Shared fixtures; builders of artifacts are in ``tests/artifacts.py``."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder whose name may be a model's name."""
    path = tmp_path / "model-under-test"
    path.mkdir()
    return path
