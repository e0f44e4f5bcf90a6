"""Extensions over HTTP: model repository, statistics, model configuration; each only where it is named."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conformance import rows
from tests.conformance.target import Target


@pytest.fixture
def offered(request: pytest.FixtureRequest, target: Target) -> None:
    if request.param not in target.extensions:
        pytest.skip(f"the server does not name the extension `{request.param}`")


def extension(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("offered", [name], indirect=True)


def infer(target: Target, model: str) -> None:
    about = target.metadata(model)
    assert target.infer(model, rows.as_json(rows.make(about), rows.datatypes(about))).status == 200


@extension("model_repository")
@pytest.mark.parametrize("body", [None, {}, {"ready": False}])
def test_the_index(target: Target, model: str, offered: None, body: Any) -> None:
    """Index: POST; an array of entries with name, and optionally version, state, reason."""
    path = "/v2/repository/index"
    index = (target.ask("POST", path) if body is None else target.post(path, body)).json
    assert {entry["name"] for entry in index} >= {model}
    for entry in index:
        assert all(isinstance(entry.get(key, ""), str) for key in ("name", "version", "state", "reason"))


@extension("model_repository")
def test_the_index_of_what_is_ready(target: Target, model: str, offered: None) -> None:
    """Index, ``ready``: only models that can answer."""
    index = target.post("/v2/repository/index", {"ready": True}).json
    assert {entry.get("state", "READY") for entry in index} == {"READY"}
    assert model in {entry["name"] for entry in index}


@extension("model_repository")
@pytest.mark.usefixtures("own")
def test_unload_and_load(target: Target, offered: None) -> None:
    """Unload, Load: 200; what is unloaded is listed, and cannot answer."""
    assert target.post("/v2/repository/models/spare/unload", {}).status == 200
    assert target.get("/v2/models/spare/ready").status >= 400
    index = {entry["name"]: entry for entry in target.post("/v2/repository/index", {}).json}
    assert index["spare"]["state"] == "UNAVAILABLE"
    assert target.post("/v2/repository/models/spare/load", {}).status == 200
    infer(target, "spare")


@extension("model_repository")
@pytest.mark.parametrize("verb", ["load", "unload"])
def test_no_model_to_load(target: Target, offered: None, verb: str) -> None:
    """Load and Unload Error: an HTTP error status and an object with ``error``."""
    assert target.post(f"/v2/repository/models/no-such-model/{verb}", {}).error


@extension("statistics")
def test_statistics_count(target: Target, model: str, offered: None) -> None:
    """Statistics: requests and times that add up, in nanoseconds; they only grow."""
    before = statistics(target, f"/v2/models/{model}/stats")
    for _ in range(3):
        infer(target, model)
    after = statistics(target, f"/v2/models/{model}/stats")
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 3
    assert after["inference_count"] >= before["inference_count"] + 3
    assert after["execution_count"] > before["execution_count"]
    assert after["last_inference"] >= before["last_inference"]
    for name, duration in after["inference_stats"].items():
        assert duration["count"] >= before["inference_stats"][name]["count"]
        assert duration["ns"] >= before["inference_stats"][name]["ns"]


@extension("statistics")
def test_failures_are_counted(target: Target, model: str, offered: None) -> None:
    """Statistics, ``fail``: requests that did not succeed."""
    before = statistics(target, f"/v2/models/{model}/stats")["inference_stats"]
    assert target.infer(model, []).status == 400
    after = statistics(target, f"/v2/models/{model}/stats")["inference_stats"]
    assert after["fail"]["count"] == before["fail"]["count"] + 1
    assert after["success"]["count"] == before["success"]["count"]


@extension("statistics")
def test_statistics_of_all(target: Target, model: str, offered: None) -> None:
    """Statistics: without a name, of every model; with a version, of that one."""
    assert model in {entry["name"] for entry in target.get("/v2/models/stats").good["model_stats"]}
    for version in target.metadata(model).get("versions", []):
        said = statistics(target, f"/v2/models/{model}/versions/{version}/stats")
        assert (said["name"], said["version"]) == (model, version)
    assert target.get("/v2/models/no-such-model/stats").error


@extension("model_configuration")
def test_configuration(target: Target, model: str, offered: None) -> None:
    """Model Configuration: the tensors of the metadata, their rows left out where ``max_batch_size`` is above 0."""
    about, config = target.metadata(model), target.get(f"/v2/models/{model}/config").good
    assert config["name"] == model
    assert config["max_batch_size"] >= 0
    skip = 1 if config["max_batch_size"] else 0
    for mine, theirs in (("input", "inputs"), ("output", "outputs")):
        for item, spec in zip(config[mine], about[theirs], strict=True):
            assert item["name"] == spec["name"]
            kind = "STRING" if spec["datatype"] == "BYTES" else spec["datatype"]
            assert item["data_type"] == f"TYPE_{kind}"
            assert [int(axis) for axis in item["dims"]] == spec["shape"][skip:]
    assert target.get("/v2/models/no-such-model/config").error


def statistics(target: Target, path: str) -> dict[str, Any]:
    (found,) = target.get(path).good["model_stats"][-1:]
    return dict(found)
