from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from tests.server.http.json_schema import mistakes
from tests.server.process import Server

from forwardpass.registry import ModelLocation
from forwardpass.server.http import openapi, samples
from forwardpass.server.served import ServedModel, State
from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec

Json = dict[str, Any]


def ask(url: str, method: str = "GET", body: bytes | None = None, kind: str = "") -> tuple[int, Message, bytes]:
    headers = {"content-type": kind} if kind else {}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.fixture(scope="module")
def document(served: Server) -> Json:
    status, headers, body = ask(f"{served.url}/openapi.json")
    assert (status, headers.get_content_type()) == (200, "application/json")
    found: Json = json.loads(body)
    return found


def resolve(document: Json, node: Json) -> Json:
    while "$ref" in node:
        place: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        node = place
    return node


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def every_ref(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from every_ref(value)
    elif isinstance(node, list):
        for value in node:
            yield from every_ref(value)


def test_the_document_is_whole(document: Json, served: Server) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": served.url}]
    assert set(document) <= {"openapi", "info", "servers", "tags", "paths", "components"}
    for ref in every_ref(document):
        assert resolve(document, {"$ref": ref})
    keys = [key for kind in document["components"].values() for key in kind]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", key) for key in keys)
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        assert path.startswith("/")
        assert method in ("get", "post")
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert all(resolve(document, answer)["description"] for answer in operation["responses"].values())
        names = [item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"]
        assert names == re.findall(r"{(\w+)}", path)


def test_every_path_answers_as_documented(document: Json, served: Server) -> None:
    for path, method, operation in operations(document):
        if "{name}" in path:
            url, expected = f"{served.url}{path.format(name='nobody')}", "404"
        else:
            url, expected = f"{served.url}{path}", "503" if must_not_be_ready(path) else "200"
        for kind, body in bodies(operation):
            status, headers, answer = ask(url, method.upper(), body, kind)
            assert str(status) == expected, (path, kind, answer)
            described = resolve(document, operation["responses"][expected])
            if "content" in described:
                content = described["content"][headers.get_content_type()]
                if headers.get_content_type() == "application/json" and content:
                    schema = resolve(document, content["schema"])
                    assert mistakes(schema, json.loads(answer)) == [], path
            else:
                assert answer == b""


def must_not_be_ready(path: str) -> bool:
    """One model of those served is broken."""
    return path in ("/readyz", "/ping", "/v2/health/ready") or ("broken" in path and path.endswith("/ready"))


def bodies(operation: Json) -> Iterator[tuple[str, bytes | None]]:
    """Every example, and no body where none must be sent."""
    if not operation.get("requestBody", {}).get("required"):
        yield "", None
        return
    shown = 0
    for kind, content in operation["requestBody"]["content"].items():
        if "example" in content:
            shown += 1
            text = content["example"]
            yield kind, (text if isinstance(text, str) else json.dumps(text)).encode()
    assert shown, operation["operationId"]


def test_examples_fit_their_schemas(document: Json) -> None:
    checked = 0
    for _, _, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in content:
            assert mistakes(resolve(document, content["schema"]), content["example"]) == []
            checked += 1
    assert checked > 20


def test_images_are_taken_raw(document: Json, served: Server) -> None:
    content = document["paths"]["/v1/models/digits:predict"]["post"]["requestBody"]["content"]
    assert {"application/json", "image/png", "image/jpeg"} <= set(content)
    status, headers, png = ask(f"{served.url}/models/digits/sample")
    assert (status, headers.get_content_type()) == (200, "image/png")
    status, _, answer = ask(f"{served.url}/v1/models/digits:predict", "POST", png, "image/png")
    assert status == 200
    schema = document["components"]["schemas"]["digits.1.predictions"]
    assert mistakes(schema, json.loads(answer)) == []
    assert mistakes(schema, {"predictions": [{"label": 3}]})


def test_ranges_and_categories_are_those_of_the_model(document: Json, served: Server) -> None:
    schema = document["components"]["schemas"]["fraud.1.instances"]
    example = document["paths"]["/v1/models/fraud:predict"]["post"]["requestBody"]["content"]["application/json"]
    row = example["example"]["instances"][0]
    for name, value in {"amount": -1, "channel": "pigeon", "hour": "noon", "nonsense": 1}.items():
        wrong = {"instances": [{**row, name: value}]}
        assert mistakes(schema, wrong), name
        status, _, answer = ask(f"{served.url}/v1/models/fraud:predict", "POST", json.dumps(wrong).encode())
        assert status == 400
        assert name in json.loads(answer)["error"]
    left_out = {"instances": [{**row, "distance_from_home": None}]}
    assert mistakes(schema, left_out) == []
    assert ask(f"{served.url}/v1/models/fraud:predict", "POST", json.dumps(left_out).encode())[0] == 200


def test_every_version_has_its_own_paths(document: Json) -> None:
    paths = document["paths"]
    assert {"/v2/models/versions/infer", "/v2/models/versions/versions/1/infer"} <= set(paths)
    newest = paths["/v2/models/versions/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert newest == {"$ref": "#/components/schemas/versions.2.infer_request"}


def test_a_model_that_cannot_answer_has_no_predict_path(document: Json) -> None:
    about_it = {path for path in document["paths"] if "broken" in path}
    assert "/v2/models/broken/ready" in about_it
    assert not any(path.endswith(("infer", ":predict")) for path in about_it)


def one_model(spec: InputSpec, folder: Path, batched: bool = True) -> ServedModel:
    served = ServedModel(ModelLocation("only", "1", folder))
    served.state = State.READY
    served.signature = Signature((spec,), (TensorSpec("y", DType.FP32, (None,)),), batched)
    return served


def test_a_single_model_has_invocations(tmp_path: Path) -> None:
    served = one_model(InputSpec(TensorSpec("x", DType.FP32, (None,)), InputType.NUMBER), tmp_path)
    paths = openapi.document([served], "http://here", {})["paths"]
    assert paths["/invocations"]["post"]["requestBody"]["content"]["application/json"]["example"] == {"instances": [0]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (InputSpec(TensorSpec("x", DType.FP32, (None,)), InputType.NUMBER, minimum=2, maximum=4), 3.0),
        (InputSpec(TensorSpec("x", DType.INT64, (None,)), InputType.NUMBER, minimum=7), 7),
        (InputSpec(TensorSpec("x", DType.INT64, (None,)), InputType.NUMBER, maximum=-7), -7),
        (InputSpec(TensorSpec("x", DType.BYTES, (None,)), InputType.CATEGORY, categories=("a", "b")), "a"),
        (InputSpec(TensorSpec("x", DType.BYTES, (None,)), InputType.TEXT), "some text"),
        (InputSpec(TensorSpec("x", DType.BOOL, (None, 2))), [False, False]),
        (InputSpec(TensorSpec("x", DType.FP16, (None, None, 2))), [[0.0, 0.0]]),
    ],
)
def test_examples_are_made_up_where_there_is_no_sample(spec: InputSpec, expected: Any, tmp_path: Path) -> None:
    served = one_model(spec, tmp_path)
    example = samples.example_of(served, None)
    assert example is not None
    assert example.instances == [expected]
    schema = openapi.document([served], "", {})["components"]["schemas"]["only.1.instances"]
    assert mistakes(schema, {"instances": example.instances}) == []


def test_a_tensor_too_large_to_show_has_no_example(tmp_path: Path) -> None:
    served = one_model(InputSpec(TensorSpec("x", DType.FP32, (None, 3, 224, 224))), tmp_path)
    assert samples.example_of(served, None) is None
    body = openapi.document([served], "", {})["paths"]["/v2/models/only/infer"]["post"]["requestBody"]
    assert "example" not in body["content"]["application/json"]


@pytest.mark.parametrize("content", [b"", b"{}", b'x\n"1', b'{"instances": 3}', b'{"instances": [[1, 2]]}', b"\xff"])
def test_a_broken_sample_is_no_example(content: bytes, tmp_path: Path) -> None:
    served = one_model(InputSpec(TensorSpec("x", DType.FP32, (None,)), InputType.NUMBER), tmp_path)
    for kind in ("application/json", "text/csv", "text/plain", "image/png"):
        example = samples.example_of(served, samples.SampleBody(content, kind))
        assert example is not None
        assert example.instances == [0.0]


def test_a_table_is_an_example_of_all_its_rows(tmp_path: Path) -> None:
    spec = InputSpec(TensorSpec("x", DType.FP32, (None,)), InputType.NUMBER, required=False)
    served = one_model(spec, tmp_path)
    example = samples.example_of(served, samples.SampleBody(b"x\n1.5\n\n2\n", "text/csv"))
    assert example is not None
    assert example.instances == [1.5, 2.0]
    assert example.tensors == [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1.5, 2.0]}]


def test_a_hundred_models_are_described_in_no_time(tmp_path: Path) -> None:
    models = []
    for number in range(100):
        served = one_model(InputSpec(TensorSpec("x", DType.FP32, (None,)), InputType.NUMBER), tmp_path)
        served.name = f"model-{number}"
        models.append(served)
    started = time.perf_counter()
    assert len(openapi.document(models, "", {})["paths"]) > 1000
    assert time.perf_counter() - started < 1.0
