"""Remote models and cascades behind the doors of real servers, whose remotes are real servers too."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import helper
from tests import artifacts
from tests.server.fronts.family import clients, needs_proc
from tests.server.grpc.client import columns, connected, infer, request
from tests.server.process import Server, running

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
SENT = {"breast-cancer": "application/json", "digits": "image/png", "task-priority": "application/json"}
ESCALATION = "{confidence: probabilities, threshold: 0.9, timeout: 10, audit: 1.0}"
ROWS = [[0.0, 0.0, 9.0], [0.0, 0.5, 0.25], [9.0, 0.0, 0.0], [0.25, 0.0, 0.0]]  # sure, unsure, sure, unsure


def classifier(path: Path, sharpness: float) -> None:
    """``probabilities`` = softmax(sharpness x), ``label`` the most probable of three."""
    nodes = [
        helper.make_node("Mul", ["x", "s"], ["h"]),
        helper.make_node("Softmax", ["h"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["h"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [artifacts.tensor("probabilities", ["N", 3]), artifacts.tensor("label", ["N"], "INT64")]
    constants = [artifacts.constant("s", np.float32(sharpness))]
    artifacts.save(path, nodes, [artifacts.tensor("x", ["N", 3])], outputs, constants)


def expected(rows: Any, sharpness: float) -> Any:
    power = np.exp(sharpness * np.array(rows))
    return power / power.sum(axis=1, keepdims=True)


def write(folder: Path, **models: str) -> None:
    for name, text in models.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "model.yaml").write_text(text, encoding="utf-8")


def get(server: Server, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=20) as answer:
        return json.load(answer)


def status(server: Server, path: str) -> int:
    try:
        with urllib.request.urlopen(server.url + path, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def health(channel: grpc.Channel, name: str) -> str:
    asked = health_pb2.HealthCheckRequest(service=name)
    found = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(found))


def post(server: Server, path: str, body: bytes, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = urllib.request.Request(server.url + path, body, names, method="POST")
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {}


def predict(server: Server, model: str, rows: Any) -> tuple[int, Any]:
    status, body, _ = post(server, f"/v1/models/{model}:predict", json.dumps({"instances": rows}).encode())
    return status, json.loads(body)


def until(true: Any, timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cloud")
    classifier(folder / "large" / "model.onnx", 20.0)
    artifacts.lookup(folder / "lookup" / "model.onnx")
    with running([folder, *(EXAMPLES / name for name in SENT)]) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, cloud: Server) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("home")
    classifier(folder / "small" / "model.onnx", 1.0)
    remote = f"remote: {{urls: ['{cloud.url}'], check_every: 0.5}}\n"
    write(folder, large=remote, lookup=remote, **dict.fromkeys(SENT, remote))
    write(folder, pair=f"description: Two\ncascade: [small, large]\nescalation: {ESCALATION}\n")
    with running([folder], grpc=True) as server:
        yield server


def check(probabilities: Any, label: Any, member: Any, confidence: Any, provisional: Any) -> None:
    """The answers of the cascade to ``ROWS``."""
    own, other = expected(ROWS, 1.0), expected(ROWS, 20.0)
    wanted = np.array([own[0], other[1], own[2], other[3]])
    assert np.allclose(np.reshape(probabilities, (4, 3)), wanted, atol=1e-5)
    assert list(label) == [2, 1, 0, 0]
    assert list(member) == ["small", "large", "small", "large"]
    assert np.allclose(confidence, wanted.max(axis=1), atol=1e-5)
    assert list(provisional) == [False] * 4


OUTPUTS = ("probabilities", "label", "member", "confidence", "provisional")


def test_a_cascade_over_v1(home: Server) -> None:
    status, said = predict(home, "pair", ROWS)
    assert status == 200
    check(*([row[name] for row in said["predictions"]] for name in OUTPUTS))


def test_a_cascade_over_v2_with_json(home: Server) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [4, 3], "data": np.ravel(ROWS).tolist()}]}
    status, said, headers = post(home, "/v2/models/pair/infer", json.dumps(body).encode())
    assert status == 200
    check(*({entry["name"]: entry["data"] for entry in json.loads(said)["outputs"]}[name] for name in OUTPUTS))
    assert "server-timing" in headers


def test_a_cascade_over_v2_with_raw_bytes(home: Server) -> None:
    raw = np.array(ROWS, np.float32).tobytes()
    given = {"name": "x", "datatype": "FP32", "shape": [4, 3], "parameters": {"binary_data_size": len(raw)}}
    wanted = [{"name": name, "parameters": {"binary_data": name != "member"}} for name in OUTPUTS]
    head = json.dumps({"inputs": [given], "outputs": wanted}).encode()
    split = {"Inference_Header_Content_Length": str(len(head))}
    status, said, headers = post(home, "/v2/models/pair/infer", head + raw, **split)
    assert status == 200
    length = int(headers["inference-header-content-length"])
    entries, tail = {entry["name"]: entry for entry in json.loads(said[:length])["outputs"]}, said[length:]
    found: dict[str, Any] = {"member": entries["member"]["data"]}
    for name, dtype in (("probabilities", "f4"), ("label", "i8"), ("confidence", "f4"), ("provisional", "?")):
        size = entries[name]["parameters"]["binary_data_size"]
        found[name], tail = np.frombuffer(tail[:size], dtype), tail[size:]
    check(*(found[name] for name in OUTPUTS))


def test_a_cascade_and_a_remote_over_grpc(home: Server) -> None:
    with connected(home) as channel:
        given = {"x": np.array(ROWS, np.float32)}
        found = columns(infer(channel, request("pair", given)))
        members = [value.decode() if isinstance(value, bytes) else value for value in found["member"]]
        check(*({**found, "member": members}[name] for name in OUTPUTS))
        far = columns(infer(channel, request("large", given)))
        assert np.allclose(far["probabilities"], expected(ROWS, 20.0), atol=1e-5)


@pytest.mark.parametrize("model", SENT)
def test_a_remote_answers_as_its_server_does(home: Server, cloud: Server, model: str) -> None:
    """Pictures, texts and tables as callers send them, byte for byte."""
    (file,) = (EXAMPLES / model).glob("sample.*")
    sample = file.read_bytes()
    asked = [post(server, f"/v1/models/{model}:predict", sample, content_type=SENT[model]) for server in (cloud, home)]
    assert asked[0][0] == 200
    assert asked[0][:2] == asked[1][:2]
    metadata = [get(server, f"/v2/models/{model}") for server in (cloud, home)]
    assert [metadata[0][key] for key in ("inputs", "outputs")] == [metadata[1][key] for key in ("inputs", "outputs")]


def test_a_bad_row_is_refused_in_the_words_of_the_server(home: Server, cloud: Server) -> None:
    assert predict(home, "lookup", [1, 2]) == (200, {"predictions": [10.0, 20.0]})
    asked = [predict(server, "lookup", [1, 99]) for server in (cloud, home)]
    assert asked[0][0] == asked[1][0] == 400
    assert asked[0][1] == asked[1][1]


def test_statistics_and_metrics_tell_of_both(home: Server) -> None:
    predict(home, "pair", ROWS)
    until(lambda: get(home, "/v2/models/pair/stats")["model_stats"][0]["composed"]["audit"]["asked"] > 0)
    (pair,) = get(home, "/v2/models/pair/stats")["model_stats"]
    assert pair["composed"]["kind"] == "cascade"
    assert pair["composed"]["escalated"] == pair["composed"]["answered"]["large"] > 0
    (large,) = get(home, "/v2/models/large/stats")["model_stats"]
    assert [server["healthy"] for server in large["composed"]["servers"]] == [True]
    with urllib.request.urlopen(f"{home.url}/metrics", timeout=20) as answer:
        lines = answer.read().decode()
    for name in ("cascade_escalated_rows", "cascade_disagreement", "remote_healthy", "remote_outstanding_rows"):
        assert f"forwardpass_{name}{{" in lines
    assert 'forwardpass_requests_total{door="cascade",model="small",outcome="ok",version="1"}' in lines


def test_people_and_pages_see_what_they_are(home: Server) -> None:
    models = {model["name"]: model for model in get(home, "/models")["models"]}
    assert (models["pair"]["backend"], models["pair"]["artifact"]) == ("cascade", "small → large")
    assert (models["large"]["backend"], models["pair"]["description"]) == ("remote", "Two")
    assert [spec["type"] for spec in models["digits"]["inputs"]] == ["image"]
    assert get(home, "/v2/models/pair/config")["max_batch_size"] == 32


def test_they_are_unloaded_and_loaded_like_any(home: Server) -> None:
    for name in ("pair", "large"):
        assert post(home, f"/v2/repository/models/{name}/unload", b"")[0] == 200
        assert predict(home, name, ROWS)[0] == 404
    assert post(home, "/v2/repository/models/pair/load", b"")[0] == 200
    _, said = predict(home, "pair", ROWS)
    assert [row["provisional"] for row in said["predictions"]] == [False, True, False, True]
    assert post(home, "/v2/repository/models/large/load", b"")[0] == 200
    _, said = predict(home, "pair", ROWS)
    assert [row["provisional"] for row in said["predictions"]] == [False] * 4
    assert post(home, "/v2/repository/models/pair/load", b"")[0] == 200  # beside the one that serves
    assert predict(home, "pair", ROWS)[0] == 200


def test_a_server_stays_ready_while_what_it_asks_is_out_of_reach(tmp_path: Path) -> None:
    classifier(tmp_path / "small" / "model.onnx", 1.0)
    write(tmp_path, pair=f"cascade: [small, large]\nescalation: {ESCALATION}\n")
    write(tmp_path, large="remote: {urls: ['http://127.0.0.1:9'], check_every: 0.2}\n")
    with running([tmp_path], grpc=True) as server:
        paths = ("/readyz", "/ping", "/v2/health/ready", "/v2/models/pair/ready", "/v2/models/large/ready")
        assert [status(server, path) for path in paths] == [200, 200, 200, 200, 503]
        with connected(server) as channel:
            assert [health(channel, name) for name in ("", "pair", "large")] == ["SERVING", "SERVING", "NOT_SERVING"]
        (pair,) = get(server, "/v2/models/pair/stats")["model_stats"]
        assert "http://127.0.0.1:9: no connection" in pair["composed"]["out_of_reach"]["large"]


@needs_proc
def test_every_front_answers_for_them(tmp_path: Path, cloud: Server) -> None:
    """Those that are not the first relay them, whatever else they could answer themselves."""
    classifier(tmp_path / "small" / "1" / "model.onnx", 1.0)
    write(tmp_path, pair=f"cascade: [small, large]\nescalation: {ESCALATION}\n")
    remote = f"remote: {{urls: ['{cloud.url}'], model: large, check_every: 0.5}}\n"
    write(tmp_path, large=remote)
    write(tmp_path / "small", **{"2": remote})  # a newer version lies elsewhere
    with running([tmp_path], "--fronts", "2") as server, clients(server) as (first, second):
        body = json.dumps({"instances": ROWS}).encode()
        for path in ("/v1/models/pair:predict", "/v1/models/large:predict", "/v1/models/small:predict"):
            answers = [client[0].ask("POST", path, body) for client in (first, second)]
            assert [answer.status for answer in answers] == [200, 200]
            assert answers[0].body == answers[1].body
        assert np.allclose(answers[1].json["predictions"][1]["probabilities"], expected(ROWS, 20.0)[1], atol=1e-5)
        old = [client[0].ask("POST", "/v1/models/small/versions/1:predict", body) for client in (first, second)]
        assert [answer.status for answer in old] == [200, 200]
        refused = [client[0].ask("POST", "/invocations", body).status for client in (first, second)]
        assert refused == [400, 400]
        stats = second[0].ask("GET", "/v2/models/pair/stats").json["model_stats"][0]
        assert stats["composed"]["rows"] == 2 * len(ROWS)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_costs_no_answer(tmp_path: Path) -> None:
    """Two real servers have the model; one is killed while both are busy, and comes back."""
    classifier(tmp_path / "cloud" / "large" / "model.onnx", 20.0)
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(running([tmp_path / "cloud"])) for _ in range(2)]
        urls = ", ".join(server.url for server in both)
        write(tmp_path / "home", large=f"remote: {{urls: [{urls}], check_every: 0.2, retry_share: 1}}\n")
        home = stack.enter_context(running([tmp_path / "home"]))
        until(lambda: all(one["healthy"] for one in _servers(home)))
        stop, statuses = threading.Event(), []

        def keep_asking() -> None:
            while not stop.is_set():
                statuses.append(predict(home, "large", ROWS)[0])

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(keep_asking) for _ in range(4)]
            until(lambda: all(one["sent"] > 20 for one in _servers(home)))
            os.killpg(both[0].pid, signal.SIGKILL)
            until(lambda: not _servers(home)[0]["healthy"])
            before = len(statuses)
            until(lambda: len(statuses) > before + 50)
            stop.set()
            for one in asking:
                one.result()
        assert set(statuses) == {200}


def _servers(home: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(home, "/v2/models/large/stats")["model_stats"][0]["composed"]["servers"]
    return found
