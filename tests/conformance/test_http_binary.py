"""The binary tensor data extension: raw tensors behind a JSON header, both ways."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.conformance import rows
from tests.conformance.target import Answer, Target

pytestmark = pytest.mark.usefixtures("offered")
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def offered(target: Target) -> None:
    if "binary_tensor_data" not in target.extensions:
        pytest.skip("the server does not name the extension `binary_tensor_data`")


def post(target: Target, model: str, header: bytes, tail: bytes, length: object = None) -> Answer:
    size = len(header) if length is None else length
    return target.ask("POST", f"/v2/models/{model}/infer", header + tail, Inference_Header_Content_Length=size)


def outputs(answer: Answer) -> dict[str, rows.Array]:
    """By name, wherever they lie."""
    assert answer.status == 200, answer
    split = int(answer.headers.get(LENGTH, len(answer.body)))
    return rows.outputs_of(json.loads(answer.body[:split]), answer.body[split:])


def as_json(target: Target, model: str) -> tuple[list[dict[str, Any]], dict[str, rows.Array]]:
    """The inputs in JSON, and the outputs of that request."""
    about = target.metadata(model)
    inputs = rows.as_json(rows.make(about), rows.datatypes(about))
    return inputs, outputs(target.infer(model, inputs))


def request(target: Target, model: str, **more: Any) -> tuple[bytes, bytes]:
    about = target.metadata(model)
    return rows.as_binary(rows.make(about), rows.datatypes(about), **more)


def test_raw_in(target: Target, model: str) -> None:
    """``binary_data_size`` of an input, its bytes behind the header: the same answer as with ``data``."""
    for _ in range(2):  # a server may remember the header
        assert rows.same(outputs(post(target, model, *request(target, model))), as_json(target, model)[1])


def test_raw_out_by_output(target: Target, model: str) -> None:
    """``binary_data`` of a requested output: its bytes behind the header, which has no ``data``."""
    inputs, expected = as_json(target, model)
    asked = [{"name": name, "parameters": {"binary_data": True}} for name in expected]
    answer = target.infer(model, inputs, outputs=asked)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert int(answer.headers[LENGTH]) < len(answer.body)
    assert rows.same(outputs(answer), expected)


def test_raw_out_for_all(target: Target, model: str) -> None:
    """``binary_data_output`` of the request: every output that says nothing else."""
    inputs, expected = as_json(target, model)
    answer = target.infer(model, inputs, parameters={"binary_data_output": True})
    split = int(answer.headers[LENGTH])
    assert all("binary_data_size" in output["parameters"] for output in json.loads(answer.body[:split])["outputs"])
    assert rows.same(outputs(answer), expected)


def test_an_output_has_the_last_word(target: Target, model: str) -> None:
    """``binary_data_output`` is the default; ``binary_data`` false of an output overrides it."""
    inputs, expected = as_json(target, model)
    first = next(iter(expected))
    asked = [{"name": name, **({"parameters": {"binary_data": False}} if name == first else {})} for name in expected]
    answer = target.infer(model, inputs, outputs=asked, parameters={"binary_data_output": True})
    said = json.loads(answer.body[: int(answer.headers.get(LENGTH, len(answer.body)))])
    where = {output["name"]: "data" in output for output in said["outputs"]}
    assert where == {name: name == first for name in expected}
    assert rows.same(outputs(answer), expected)


def test_raw_both_ways(target: Target, model: str) -> None:
    """All raw."""
    answer = post(target, model, *request(target, model, parameters={"binary_data_output": True}))
    assert rows.same(outputs(answer), as_json(target, model)[1])


def test_some_inputs_raw(target: Target, model: str) -> None:
    """Inputs in JSON and raw ones may be mixed; raw ones follow in the order of their entries."""
    about = target.metadata(model)
    columns, types = rows.make(about), rows.datatypes(about)
    for raw in (set(list(columns)[::2]), set(list(columns)[1::2])):
        entries, tail = [], b""
        for entry in rows.as_json(columns, types):
            if entry["name"] in raw:
                data = rows.raw(columns[entry["name"]])
                entry = {key: value for key, value in entry.items() if key != "data"}
                entry["parameters"] = {"binary_data_size": len(data)}
                tail += data
            entries.append(entry)
        answer = post(target, model, json.dumps({"inputs": entries}).encode(), tail)
        assert rows.same(outputs(answer), as_json(target, model)[1])


def test_the_length_may_be_left_out(target: Target, model: str) -> None:
    """No ``Inference-Header-Content-Length``: the whole body is JSON. One that covers the body: the same."""
    inputs, expected = as_json(target, model)
    body = json.dumps({"inputs": inputs}).encode()
    assert rows.same(outputs(post(target, model, body, b"")), expected)


@pytest.mark.parametrize("length", [-1, 0, 10**9, "x", "1.5"])
def test_a_length_that_is_none(target: Target, model: str, length: object) -> None:
    """``Inference-Header-Content-Length`` is the length of the JSON within the body."""
    header, tail = request(target, model)
    answer = post(target, model, header, tail, length)
    assert answer.error
    assert answer.status == 400


@pytest.mark.parametrize("more", [-1, 1, 4])
def test_the_wrong_number_of_bytes(target: Target, model: str, more: int) -> None:
    """``binary_data_size`` is what datatype and shape need, and what follows."""
    header, tail = request(target, model)
    for changed in (tail[:more] if more < 0 else tail + bytes(more),):
        answer = post(target, model, header, changed)
        assert answer.error
        assert answer.status == 400


@pytest.mark.parametrize("size", [-1, "4", 1.5, None, True, 10**30])
def test_a_size_that_is_none(target: Target, model: str, size: object) -> None:
    """``binary_data_size`` is a number of bytes."""
    header, tail = request(target, model)
    said = json.loads(header)
    said["inputs"][-1]["parameters"]["binary_data_size"] = size
    answer = post(target, model, json.dumps(said).encode(), tail)
    assert answer.error
    assert answer.status == 400


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("datatype", rows.TYPES)
def test_the_bits_of_every_type(target: Target, datatype: str) -> None:
    """Raw bytes come back as they went in: NaN, infinities, signed zeros, extremes, empty and long texts."""
    model = rows.holder(datatype)
    about = target.metadata(model)
    name = f"x_{datatype}"
    edges = extremes(datatype)
    columns = {key: array[:1].repeat(len(edges), 0) for key, array in rows.make(about).items()} | {name: edges}
    asked = [{"name": f"y_{datatype}", "parameters": {"binary_data": True}}]
    found = outputs(post(target, model, *rows.as_binary(columns, rows.datatypes(about), outputs=asked)))
    assert rows.raw(found[f"y_{datatype}"]) == rows.raw(edges)


def extremes(datatype: str) -> rows.Array:
    if datatype == "BYTES":
        return rows.objects([b"", b"a\0b", b"a" * 70_000, "ä".encode(), b"\0", b" "], (3, 2))
    kind = np.dtype(rows.TYPES[datatype])
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return np.array([[limits.min, limits.max], [0, 1]], kind)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    return np.array([[np.nan, np.inf], [-np.inf, -0.0], [1.5, -2.0]]).astype(kind)
