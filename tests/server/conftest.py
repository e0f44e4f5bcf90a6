"""Servers that tests may share, as long as they change nothing in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import artifacts
from tests.server.process import Server, running

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of tiny bare models, one of each kind that a client may meet."""
    folder = tmp_path_factory.mktemp("repository")
    artifacts.affine(folder / "affine" / "model.onnx")
    artifacts.two_inputs(folder / "two-inputs" / "model.onnx")
    artifacts.identity(folder / "bytes" / "model.onnx", "BYTES")
    artifacts.identity(folder / "half" / "model.onnx", "FP16")
    artifacts.identity(folder / "brain" / "model.onnx", "BF16")
    artifacts.identity(folder / "bool" / "model.onnx", "BOOL")
    artifacts.lookup(folder / "lookup" / "model.onnx")
    artifacts.no_batch_axis(folder / "unbatched" / "model.onnx")
    artifacts.identity(folder / "versions" / "1" / "model.onnx", "INT64")
    artifacts.identity(folder / "versions" / "2" / "model.onnx", "INT64")
    broken = folder / "broken" / "model.onnx"
    broken.parent.mkdir()
    broken.write_bytes(b"not a model")
    return folder


@pytest.fixture(scope="session")
def served(tiny_models: Path) -> Iterator[Server]:
    """The tiny models and the examples, one of which (``broken``) cannot be loaded."""
    with running([tiny_models, EXAMPLES], grpc=True) as server:
        yield server
