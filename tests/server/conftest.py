"""Servers that tests may share, as long as they change nothing in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.process import Server, running
from tests.server.repository import tiny_models

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The tiny models and the examples, one of which (``broken``) cannot be loaded."""
    with running([tiny_models(tmp_path_factory.mktemp("repository")), EXAMPLES], grpc=True) as server:
        yield server
