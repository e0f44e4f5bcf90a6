"""The Open Inference Protocol as bytes; ``test_tritonclient.py`` has it as a client sees it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.server.http.raw import Answer, Wire, post
from tests.server.process import Server

PAIR = {"name": "x", "shape": [2, 2], "datatype": "INT64", "data": [[1, 2], [3, 4]]}


@pytest.fixture
def wire(served: Server) -> Iterator[Wire]:
    with Wire(served.port) as wire:
        yield wire


def infer(wire: Wire, model: str, body: dict[str, Any], *headers: str) -> Answer:
    answer = wire.send(post(f"/v2/models/{model}/infer", body, *headers)).answer()
    assert answer.status == 200, answer
    return answer


def binary(answer: Answer) -> tuple[dict[str, Any], bytes]:
    """The JSON before the raw tensors, and those."""
    assert answer.headers["content-type"] == "application/octet-stream"
    split = int(answer.headers["inference-header-content-length"])
    return json.loads(answer.body[:split]), answer.body[split:]


def test_an_answer_in_json(wire: Wire) -> None:
    answer = infer(wire, "versions", {"inputs": [PAIR], "id": 'a "1"'})
    assert answer.json == {
        "model_name": "versions",
        "model_version": "2",
        "id": 'a "1"',
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [2, 2], "data": [1, 2, 3, 4]}],
    }
    assert infer(wire, "versions/versions/1", {"inputs": [PAIR]}).json["model_version"] == "1"


@pytest.mark.parametrize("id_", [None, "again"])
@pytest.mark.parametrize(
    "ask",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
    ],
)
def test_an_answer_in_raw_bytes(wire: Wire, ask: dict[str, Any], id_: str | None) -> None:
    body = {"inputs": [PAIR], **ask, **({"id": id_} if id_ else {})}
    header, raw = binary(infer(wire, "versions", body))
    assert header.get("id") == id_
    assert header["outputs"][0]["parameters"] == {"binary_data_size": 32}
    assert np.frombuffer(raw, np.int64).tolist() == [1, 2, 3, 4]


def test_raw_bytes_in_are_the_same_request(wire: Wire) -> None:
    """Also the second and third time, when the header is known, with other rows and in a chunked body."""
    for start in range(3):
        header = {"inputs": [{**PAIR, "parameters": {"binary_data_size": 32}}]}
        del header["inputs"][0]["data"]
        text = json.dumps(header).encode()
        raw = np.arange(start, start + 4, dtype=np.int64).tobytes()
        data = post("/v2/models/versions/infer", text + raw, f"Inference-Header-Content-Length: {len(text)}")
        assert wire.send(data).answer().json["outputs"][0]["data"] == list(range(start, start + 4))


def test_only_the_outputs_asked_for_in_the_order_asked(wire: Wire) -> None:
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["Prepare quarterly report"]}
    every = infer(wire, "task-priority", {"inputs": [text]}).json["outputs"]
    assert [output["name"] for output in every[:2]] == ["label", "probability"]
    asked = {"inputs": [text], "outputs": [{"name": "probability"}, {"name": "label"}]}
    some = infer(wire, "task-priority", asked).json["outputs"]
    assert some == [every[1], every[0]]
    mixed = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probability"}]
    header, raw = binary(infer(wire, "task-priority", {"inputs": [text], "outputs": mixed}))
    label = every[0]["data"][0].encode()
    assert raw == len(label).to_bytes(4, "little") + label
    assert header["outputs"][1]["data"] == every[1]["data"]


def test_a_compressed_answer(wire: Wire) -> None:
    many = {**PAIR, "shape": [500, 2], "data": [7] * 1000}
    answer = infer(wire, "versions", {"inputs": [many]}, "Accept-Encoding: gzip, deflate")
    assert answer.headers["content-encoding"] == "gzip"
    plain = infer(wire, "versions", {"inputs": [many]})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(answer.body) == plain.body


def test_nan_goes_out_as_null(wire: Wire) -> None:
    header = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP16", "parameters": {"binary_data_size": 4}}]}
    text = json.dumps(header).encode()
    raw = np.array([np.nan, 1], np.float16).tobytes()
    data = post("/v2/models/half/infer", text + raw, f"Inference-Header-Content-Length: {len(text)}")
    assert wire.send(data).answer().json["outputs"][0]["data"] == [None, 1.0]


def test_more_rows_than_a_batch_holds_come_back_in_order(wire: Wire) -> None:
    values = list(range(2000))
    answer = infer(wire, "versions", {"inputs": [{**PAIR, "shape": [1000, 2], "data": values}]})
    assert answer.json["outputs"][0]["data"] == values
