"""Which server the kit is held against: ``--url`` and ``--grpc`` name one, else ours is started.

Ours serves the project's examples and tiny models made for what only they can show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from tests import artifacts
from tests.conformance.target import Target
from tests.server.process import running

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
OURS = ["affine", "every-type", "unbatched", "task-priority"]
MORE = [
    "brain",
    "numbers-and-texts",
    "ragged",
    "two-inputs",
    "breast-cancer",
]  # the same clauses, less likely to differ


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "the Open Inference Protocol, against any server")
    group.addoption("--url", help="HTTP address of a running server: http://host:port")
    group.addoption("--grpc", help="gRPC address of the same server: host:port")
    group.addoption("--model", help="a model whose inputs take any values; default: the first that is ready")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "model" in metafunc.fixturenames:
        foreign = metafunc.config.getoption("--url", None)
        mine: list[Any] = [*OURS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
        names = [metafunc.config.getoption("--model", None) or ""] if foreign else mine
        metafunc.parametrize("model", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit's own models; a test may load and unload ``spare``."""
    folder = tmp_path_factory.mktemp("conformance")
    artifacts.affine(folder / "affine" / "model.onnx")
    artifacts.two_inputs(folder / "two-inputs" / "model.onnx")
    artifacts.no_batch_axis(folder / "unbatched" / "model.onnx")
    artifacts.ragged(folder / "ragged" / "model.onnx")
    artifacts.scalar_output(folder / "scalar" / "model.onnx")
    artifacts.identity(folder / "versions" / "1" / "model.onnx", "INT64")
    artifacts.identity(folder / "versions" / "2" / "model.onnx", "INT64")
    artifacts.identity(folder / "spare" / "model.onnx", "INT64")
    every_type(folder / "every-type" / "model.onnx", [name for name in artifacts.ONNX_TYPES if name != "BF16"])
    numbers = [name for name in artifacts.ONNX_TYPES if name not in ("BF16", "FP16")]
    every_type(folder / "numbers-and-texts" / "model.onnx", numbers)  # the types that gRPC has a field for
    every_type(folder / "brain" / "model.onnx", ["BF16"])  # which ONNX Runtime cannot be given beside texts
    return folder


def every_type(path: Path, names: Sequence[str]) -> None:
    """``y_T = x_T`` of rows of two, for each of these element types T."""
    nodes, inputs, outputs = [], [], []
    for name in names:
        nodes.append(helper.make_node("Identity", [f"x_{name}"], [f"y_{name}"]))
        inputs.append(artifacts.tensor(f"x_{name}", ("N", 2), name))
        outputs.append(artifacts.tensor(f"y_{name}", ("N", 2), name))
    artifacts.save(path, nodes, inputs, outputs)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The server under test."""
    url = request.config.getoption("--url", None)
    if url:
        yield Target(url.rstrip("/"), request.config.getoption("--grpc", None))
        return
    repository = request.getfixturevalue("repository")
    with running([repository, EXAMPLES], grpc=True) as server:
        yield Target(server.url, f"127.0.0.1:{server.grpc_port}", ours=True)


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest, target: Target) -> str:
    """A model that takes any values: the one named, else the first that the repository calls ready."""
    return str(request.param or _first_ready(target))


def _first_ready(target: Target) -> str:
    index: Any = target.post("/v2/repository/index", {}).json
    ready = [entry["name"] for entry in index if entry.get("state") == "READY"] if isinstance(index, list) else []
    if not ready:
        pytest.skip("the server lists no ready model; name one with --model")
    return str(ready[0])


@pytest.fixture(scope="session")
def one_model(request: pytest.FixtureRequest, target: Target) -> str:
    """One model, for what costs a process to show."""
    return OURS[0] if target.ours else str(request.config.getoption("--model", None) or _first_ready(target))


@pytest.fixture(scope="session")
def own(target: Target) -> None:
    """For what only models made for it can show."""
    if not target.ours:
        pytest.skip("needs the kit's own models")


@pytest.fixture(scope="session")
def grpc_address(target: Target) -> str:
    if target.grpc is None:
        pytest.skip("no gRPC address: give --grpc HOST:PORT")
    return target.grpc
