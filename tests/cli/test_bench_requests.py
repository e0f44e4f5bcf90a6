"""Rows in the bytes of each protocol: what must be told in another way than the rest."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass.cli.bench_requests import columns_of, in_requests, prepare, read_data, sample_source, signature_of
from forwardpass.cli.example import tiny_image
from forwardpass.cli.sources import Source, Table
from forwardpass.errors import InvalidInput
from forwardpass.server.grpc.generated import inference_pb2
from forwardpass.types import Columns, Signature


def signature(*inputs: tuple[str, str, list[int]], batched: bool = True, **more: Any) -> Signature:
    """As a server tells it; ``more`` is said of every input."""
    rest: dict[str, Any] = {"required": True, "minimum": None, "maximum": None, "categories": [], "max_length": None}
    rest |= {"max_pixels": None, "type": "tensor", **more}
    facts = [{"name": name, "datatype": datatype, "shape": shape, **rest} for name, datatype, shape in inputs]
    return signature_of({"inputs": facts, "outputs": [], "batched": batched})


def body(door: str, columns: Columns, taken: Signature) -> Any:
    (request,) = prepare(door, "http://h:1", "m/versions/1", [columns], taken)
    head, _, content = request.partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(content) in head
    return json.loads(content)


def test_a_free_axis_and_all_else_that_a_server_tells() -> None:
    (spec,) = signature(("x", "FP32", [-1, 3]), type="number", minimum=1, required=False).inputs
    assert spec.tensor.shape == (None, 3)
    assert (spec.type, spec.minimum, spec.required) == ("number", 1, False)


def test_an_input_that_may_be_missing_is_left_out() -> None:
    taken = signature(("a", "FP32", [-1]), ("b", "FP32", [-1]), type="number", required=False)
    columns = columns_of(Source("s", [{"a": 1}]), taken)
    assert [tensor["name"] for tensor in body("v2-json", columns, taken)["inputs"]] == ["a"]
    assert body("v1", columns, taken) == {"instances": [{"a": 1.0, "b": None}]}


def test_an_image_is_base64_in_json_and_itself_in_bytes() -> None:
    taken = signature(("x", "BYTES", [-1]), type="image")
    columns = columns_of(sample_source(tiny_image(), "image/png"), taken)
    text = base64.b64encode(tiny_image()).decode()
    assert body("v2-json", columns, taken)["inputs"][0]["data"] == [text]
    assert body("v1", columns, taken) == {"instances": [{"b64": text}]}
    (raw,) = prepare("v2-binary", "http://h:1", "m", [columns], taken)
    assert raw.endswith(len(tiny_image()).to_bytes(4, "little") + tiny_image())
    (message,) = prepare("grpc", "", "m/versions/3", [columns], taken)
    request = inference_pb2.ModelInferRequest.FromString(message)
    assert (request.model_name, request.model_version, list(request.inputs[0].shape)) == ("m", "3", [1])
    assert tiny_image() in request.raw_input_contents[0]


def test_numbers_that_json_knows_no_type_for() -> None:
    taken = signature(("x", "BF16", [-1, 2]))
    columns = columns_of(Source("s", [[0.5, 2]]), taken)
    (tensor,) = body("v2-json", columns, taken)["inputs"]
    assert tensor == {"name": "x", "shape": [1, 2], "datatype": "BF16", "data": [0.5, 2.0]}


def test_every_row_is_in_a_request_and_all_requests_are_full() -> None:
    taken = signature(("x", "INT64", [-1]))
    columns = {"x": np.arange(5)}
    assert [part["x"].tolist() for part in in_requests(columns, taken, 2)] == [[0, 1], [2, 3], [4, 0]]
    assert [part["x"].tolist() for part in in_requests(columns, taken, 7)] == [[0, 1, 2, 3, 4, 0, 1]]
    whole = signature(("x", "INT64", [5]), batched=False)
    assert in_requests(columns, whole, 2) == [columns]


@pytest.mark.parametrize(
    ("content", "kind", "rows"),
    [
        (b'{"instances": [1]}', "application/json", [1]),
        (b"a text", "text/plain", ["a text"]),
        (b"a,b\n1,2\n", "text/csv", Table(["a", "b"], [["1", "2"]])),
    ],
)
def test_samples(content: bytes, kind: str, rows: Any) -> None:
    assert sample_source(content, kind).rows == rows


def test_data_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("1\nnope\n")
    with pytest.raises(InvalidInput, match=r"rows\.jsonl: not readable as one JSON value per line"):
        read_data(str(file))
    with pytest.raises(InvalidInput, match="has no rows"):
        columns_of(Source("empty.json", []), signature(("x", "FP32", [-1, 2])))
