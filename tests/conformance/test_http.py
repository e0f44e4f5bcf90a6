"""V2 over HTTP/REST, clause by clause: health, metadata, inference, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.conformance import rows
from tests.conformance.target import Target

NOBODY = "no-such-model"
KNOWN = set(rows.TYPES)


def inputs(target: Target, model: str, *, nested: bool = False) -> list[dict[str, Any]]:
    about = target.metadata(model)
    return rows.as_json(rows.make(about), rows.datatypes(about), nested=nested)


# Health


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_server_health(target: Target, path: str) -> None:
    """Server Live, Server Ready: GET, 200 where it is; the object, where one is sent, says so."""
    answer = target.get(path)
    assert answer.status == 200
    if answer.body:
        said = answer.good
        assert said
        assert set(said.values()) == {True}
        assert set(said) <= {"live", "ready"}


def test_model_ready(target: Target, model: str) -> None:
    """Model Ready: 200 with the model's name and readiness; the version may be in the path."""
    versions = target.metadata(model).get("versions", [])
    for path in [model, *(f"{model}/versions/{version}" for version in versions)]:
        answer = target.get(f"/v2/models/{path}/ready")
        assert answer.status == 200
        if answer.body:
            assert answer.good == {"name": model, "ready": True}


def test_a_model_that_is_not_there_is_not_ready(target: Target) -> None:
    """Model Ready: an error status where the model cannot answer."""
    assert 400 <= target.get(f"/v2/models/{NOBODY}/ready").status < 600


# Metadata


def test_server_metadata(target: Target) -> None:
    """Server Metadata: name, version, extensions."""
    said = target.get("/v2").good
    assert isinstance(said["name"], str)
    assert isinstance(said["version"], str)
    assert all(isinstance(name, str) for name in said["extensions"])


def test_model_metadata(target: Target, model: str) -> None:
    """Model Metadata: name, versions, platform, and of each tensor its name, datatype and shape."""
    said = target.metadata(model)
    assert said["name"] == model
    assert isinstance(said["platform"], str)
    assert all(isinstance(version, str) for version in said.get("versions", []))
    assert said["inputs"]
    assert said["outputs"]
    for tensor in (*said["inputs"], *said["outputs"]):
        assert isinstance(tensor["name"], str)
        assert tensor["datatype"] in KNOWN
        assert all(type(axis) is int and axis >= -1 for axis in tensor["shape"])


def test_model_metadata_by_version(target: Target, model: str) -> None:
    """Model Metadata: every version that is listed may be asked for by the path."""
    whole = target.metadata(model)
    for version in whole.get("versions", []):
        said = target.get(f"/v2/models/{model}/versions/{version}").good
        assert (said["name"], said["inputs"]) == (model, whole["inputs"])


@pytest.mark.parametrize("path", [NOBODY, f"{NOBODY}/versions/1"])
def test_metadata_of_no_model(target: Target, path: str) -> None:
    """Model Metadata Error: an HTTP error status and an object with ``error``."""
    assert target.get(f"/v2/models/{path}").error


def test_metadata_of_no_version(target: Target, model: str) -> None:
    """Model Metadata Error: a version that is not there."""
    assert target.get(f"/v2/models/{model}/versions/987654").error


# Inference


def test_the_answer(target: Target, model: str) -> None:
    """Inference Response: model_name, model_version, outputs as the metadata describes them."""
    about = target.metadata(model)
    said = target.infer(model, inputs(target, model)).good
    assert said["model_name"] == model
    assert isinstance(said.get("model_version", ""), str)
    described = {spec["name"]: spec for spec in about["outputs"]}
    assert {output["name"] for output in said["outputs"]} == set(described)
    for output in said["outputs"]:
        spec = described[output["name"]]
        assert output["datatype"] == spec["datatype"]
        assert len(output["shape"]) == len(spec["shape"])
        assert all(wanted in (-1, size) for size, wanted in zip(output["shape"], spec["shape"], strict=True))
        assert len(output["data"]) in (math.prod(output["shape"]), (output["shape"] or [1])[0])
    assert rows.outputs_of(said)


def test_by_version(target: Target, model: str) -> None:
    """Inference: the version in the path is the one that answers."""
    for version in target.metadata(model).get("versions", []):
        said = target.infer(f"{model}/versions/{version}", inputs(target, model)).good
        assert said.get("model_version") == version


def test_nested_data_is_the_same_request(target: Target, model: str) -> None:
    """Tensor Data: flattened in row-major order, or nested by its axes."""
    flat = target.infer(model, inputs(target, model)).good
    nested = target.infer(model, inputs(target, model, nested=True)).good
    assert rows.same(rows.outputs_of(flat), rows.outputs_of(nested))


@pytest.mark.parametrize("id_", ["42", "ä \"'\\ / \u2028", "x" * 1000])
def test_the_id_comes_back(target: Target, model: str, id_: str) -> None:
    """Inference Request, id: if specified it must be returned."""
    assert target.infer(model, inputs(target, model), id=id_).good["id"] == id_


def test_without_an_id(target: Target, model: str) -> None:
    """Inference Request, id: optional."""
    assert isinstance(target.infer(model, inputs(target, model)).good.get("id", ""), str)


def test_only_the_outputs_asked_for(target: Target, model: str) -> None:
    """Inference Request, outputs: those named, else all."""
    every = rows.outputs_of(target.infer(model, inputs(target, model)).good)
    for name in every:
        some = rows.outputs_of(target.infer(model, inputs(target, model), outputs=[{"name": name}]).good)
        assert rows.same(some, {name: every[name]})


def test_the_order_of_inputs_does_not_matter(target: Target, model: str) -> None:
    """Request Input: tensors are known by their names."""
    given = inputs(target, model)
    one, other = target.infer(model, given).good, target.infer(model, given[::-1]).good
    assert rows.same(rows.outputs_of(one), rows.outputs_of(other))


def test_parameters_that_nobody_defined(target: Target, model: str) -> None:
    """Parameters: an object of any key/value pairs, at each of its places."""
    odd = {"kit_flag": True, "kit_number": 3, "kit_text": "x"}
    given = [{**tensor, "parameters": odd} for tensor in inputs(target, model)]
    asked = [{"name": spec["name"], "parameters": odd} for spec in target.metadata(model)["outputs"]]
    assert target.infer(model, given, parameters=odd, outputs=asked).good["outputs"]


def test_a_content_type_with_a_charset(target: Target, model: str) -> None:
    """The body is JSON, whatever else the content type says."""
    body = {"inputs": inputs(target, model)}
    answer = target.post(f"/v2/models/{model}/infer", body, Content_Type="application/json; charset=utf-8")
    assert answer.good["outputs"]


# Errors of inference: an HTTP error status (400 where the request is wrong) and an object with `error`

WRONG = {
    "another datatype": lambda tensor: {**tensor, "datatype": "FP64" if tensor["datatype"] != "FP64" else "INT8"},
    "no datatype of the protocol": lambda tensor: {**tensor, "datatype": "FLOAT"},
    "an axis more": lambda tensor: {**tensor, "shape": [*tensor["shape"], 1, 1]},
    "no axes": lambda tensor: {**tensor, "shape": []},
    "a negative axis": lambda tensor: {**tensor, "shape": [-axis for axis in tensor["shape"]] or [-1]},
    "a shape that is none": lambda tensor: {**tensor, "shape": "all"},
    "an axis that is no number": lambda tensor: {**tensor, "shape": [None for _ in tensor["shape"]] or None},
    "too little data": lambda tensor: {**tensor, "data": tensor["data"][:-1]},
    "too much data": lambda tensor: {**tensor, "data": [*tensor["data"], tensor["data"][0]]},
    "no data": lambda tensor: {key: value for key, value in tensor.items() if key != "data"},
    "data that is none": lambda tensor: {**tensor, "data": None},
    "data of another type": lambda tensor: {**tensor, "data": [{} for _ in tensor["data"]]},
    "no name": lambda tensor: {key: value for key, value in tensor.items() if key != "name"},
    "no shape": lambda tensor: {key: value for key, value in tensor.items() if key != "shape"},
    "no datatype": lambda tensor: {key: value for key, value in tensor.items() if key != "datatype"},
    "an unknown input": lambda tensor: {**tensor, "name": "no such input"},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_tensor(target: Target, model: str, change: Any) -> None:
    """Inference Response Error: the first input, wrong in one way."""
    first, *others = inputs(target, model)
    answer = target.infer(model, [change(first), *others])
    assert answer.error
    assert answer.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}", b'{"inputs": []}', b'{"inputs": 3}', b"\xff\xfe"])
def test_a_body_that_is_no_request(target: Target, model: str, body: bytes) -> None:
    """Inference Response Error: what cannot be read."""
    answer = target.ask("POST", f"/v2/models/{model}/infer", body, Content_Type="application/json")
    assert answer.error
    assert answer.status == 400


def test_an_unknown_output(target: Target, model: str) -> None:
    """Request Output, name: must be one of the model's."""
    answer = target.infer(model, inputs(target, model), outputs=[{"name": "no such output"}])
    assert answer.error
    assert answer.status == 400


def test_a_model_that_is_not_there(target: Target, model: str) -> None:
    """Inference Response Error: no such model, no such version."""
    for path in (NOBODY, f"{model}/versions/987654"):
        answer = target.infer(path, inputs(target, model))
        assert answer.error
        assert 400 <= answer.status < 500


def test_only_post_infers(target: Target, model: str) -> None:
    """Inference: the verb is POST."""
    assert target.get(f"/v2/models/{model}/infer").status in (404, 405)
