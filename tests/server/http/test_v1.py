"""V1 predict: what people send with curl, in every content type, and SageMaker's two URLs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import artifacts
from tests.server.conftest import EXAMPLES
from tests.server.http.raw import Answer, Wire, ask, post, request
from tests.server.process import Server, running

PICTURE = (EXAMPLES / "digits" / "sample.png").read_bytes()
FRAUD = json.loads((EXAMPLES / "fraud" / "sample.json").read_text())


@pytest.fixture
def wire(served: Server) -> Iterator[Wire]:
    with Wire(served.port) as wire:
        yield wire


def predict(wire: Wire, model: str, body: Any, *headers: str) -> Any:
    answer = wire.send(post(f"/v1/models/{model}:predict", body, *headers)).answer()
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    return answer.json["predictions"]


def test_an_image_in_every_way_of_sending_it(wire: Wire) -> None:
    encoded = base64.b64encode(PICTURE).decode()
    raw = predict(wire, "digits", PICTURE, "Content-Type: image/png")
    assert predict(wire, "digits", PICTURE, "Content-Type: IMAGE/anything; a=b") == raw
    for instance in ({"image": {"b64": encoded}}, {"b64": encoded}, {"image": encoded}, encoded):
        assert predict(wire, "digits", {"instances": [instance]}) == raw


def test_a_text_in_every_way_of_sending_it(wire: Wire) -> None:
    text = "Prepare quarterly report für alle"
    raw = predict(wire, "task-priority", text.encode(), "Content-Type: text/plain; charset=utf-8")
    assert predict(wire, "task-priority", {"instances": [text]}) == raw
    assert predict(wire, "task-priority", {"instances": [{"text": text}]}) == raw
    table = f'text\r\n"{text}"\r\n'.encode()
    assert predict(wire, "task-priority", table, "Content-Type: text/csv") == raw


def test_a_table_with_a_header_line(wire: Wire) -> None:
    rows = FRAUD["instances"]
    names = list(rows[0])
    lines = [",".join(names), *(",".join("" if row[n] is None else str(row[n]) for n in names) for row in rows)]
    table = predict(wire, "fraud", "\n".join(lines).encode(), "Content-Type: text/csv")
    assert table == predict(wire, "fraud", FRAUD)
    assert len(table) == len(rows)


@pytest.mark.parametrize("header", [[], ["Content-Type: application/json"], ["Content-Type: application/x-www-form"]])
def test_any_other_type_is_read_as_json(wire: Wire, header: list[str]) -> None:
    assert predict(wire, "versions", b'{"instances": [[1, 2]]}', *header) == [[1, 2]]


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (b"", "empty"),
        (b"nonsense\n1\n", "nonsense"),
        (b'text\n"a', "CSV"),
        (b"text\na,b\n", "2"),
        (b"\xff\n", "UTF-8"),
    ],
)
def test_wrong_tables(wire: Wire, table: bytes, word: str) -> None:
    answer = wire.send(post("/v1/models/task-priority:predict", table, "Content-Type: text/csv")).answer()
    assert answer.status == 400
    assert word in answer.error


def test_a_chosen_version_and_bytes_out(wire: Wire) -> None:
    answer = wire.send(post("/v1/models/versions/versions/1:predict", {"instances": [[1, 2]]})).answer()
    assert answer.json == {"predictions": [[1, 2]]}
    assert predict(wire, "bytes", {"instances": [["ä", ""]]}) == [["ä", ""]]


def test_several_outputs_come_by_name_and_one_by_itself(wire: Wire) -> None:
    assert list(predict(wire, "fraud", FRAUD)[0]) == ["fraud_probability", "decision"]
    assert predict(wire, "unbatched", {"instances": [[1, 2, 3, 4]]}) == [[2.0, 4.0, 6.0, 8.0]]


def invoke(port: int) -> Answer:
    return ask(port, post("/invocations", {"instances": [[1, 2]]}))


def test_sagemakers_urls_with_several_models(served: Server) -> None:
    answer = invoke(served.port)
    assert answer.status == 400
    assert "exactly one model" in answer.error
    assert "digits" in answer.error
    ping = ask(served.port, request("GET", "/ping"))
    assert ping.status == 503  # one of its models is broken
    assert "broken" in ping.error


def test_sagemakers_urls_with_one_model(tmp_path: Path) -> None:
    for version in ("1", "2"):
        artifacts.identity(tmp_path / "only" / version / "model.onnx", "INT64")
    with running([tmp_path / "only"]) as server:
        assert invoke(server.port).json == {"predictions": [[1, 2]]}
        assert ask(server.port, request("GET", "/ping")).status == 200
