"""One cloud for all tests here; each test is another device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.edge.outbox.cloud import Cloud, cloud


@pytest.fixture(scope="session")
def taking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud(tmp_path_factory.mktemp("cloud") / "intake") as found:
        yield found


@pytest.fixture
def device(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A name that no other test uses."""
    return f"{request.node.originalname[:60]}-{abs(hash(tmp_path))}"
