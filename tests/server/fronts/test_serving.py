"""Two fronts of one server answer alike, and what each counts is told as one."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from tests import artifacts
from tests.server.fronts.family import Answer, Client, clients, control, needs_proc, statistics, workers
from tests.server.process import Server, running

pytestmark = needs_proc
WIDE = 200_000  # numbers of a row that goes through shared memory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    artifacts.affine(folder / "affine" / "model.onnx")
    artifacts.identity(folder / "twin" / "model.onnx")
    artifacts.identity(folder / "wide" / "model.onnx", shape=["N", "M"])
    for name in ("counted", "again", "measured"):
        artifacts.identity(folder / name / "model.onnx")
        (folder / name / "model.yaml").write_text("warm_up: false\n")
    with running([folder], "--fronts", "2") as made:
        yield made


@pytest.fixture(scope="module")
def two(server: Server) -> Iterator[tuple[Client, Client]]:
    """A connection to the first front, and one to the other."""
    with clients(server) as ((first,), (second,)):
        yield first, second


def test_connections_reach_both_and_one_worker_serves_them(server: Server, two: tuple[Client, Client]) -> None:
    first, second = two
    assert first.front == server.pid != second.front
    assert len(workers(server)) == 6
    assert [client.predict("twin", 3.0).json for client in two] == [{"predictions": [[3.0, 3.0]]}] * 2


def binary(array: np.ndarray, asked: str = "y") -> tuple[bytes, str]:
    """A V2 request in binary, and the length of its header."""
    given = {"name": "x", "shape": array.shape, "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes}}
    header = json.dumps({"inputs": [given], "outputs": [{"name": asked, "parameters": {"binary_data": True}}]}).encode()
    return header + array.tobytes(), str(len(header))


def infer(client: Client, model: str, array: np.ndarray) -> np.ndarray:
    body, length = binary(array)
    answer = client.ask("POST", f"/v2/models/{model}/infer", body, Inference_Header_Content_Length=length)
    assert answer.status == 200, answer.body
    return np.frombuffer(answer.body[int(answer.headers["inference-header-content-length"]) :], np.float32)


def test_both_answer_the_same_bits(two: tuple[Client, Client]) -> None:
    row = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    first, second = (infer(client, "affine", row) for client in two)
    assert first.tobytes() == second.tobytes()
    np.testing.assert_allclose(first, row[0] @ artifacts.weights() + 1, rtol=1e-4)


def test_large_columns_go_through_either(two: tuple[Client, Client]) -> None:
    for number in range(3):
        for place, client in enumerate(two):
            row = np.full((1, WIDE), 10 * number + place, np.float32)
            assert infer(client, "wide", row).tobytes() == row.tobytes()


def load(client: Client, model: str, count: int) -> list[int]:
    return [client.predict(model).status for _ in range(count)]


def test_statistics_are_the_sum_also_after_another_load(server: Server, two: tuple[Client, Client]) -> None:
    first, second = two
    assert load(first, "counted", 5) + load(second, "counted", 7) == [200] * 12
    assert second.ask("POST", "/v1/models/counted:predict", b"{}").status == 400
    for client in two:
        found = statistics(client, "counted")
        assert (found["inference_count"], found["execution_count"]) == (12, 12)
        assert found["inference_stats"]["success"]["count"] == 12
        assert found["inference_stats"]["fail"]["count"] == 1
        assert found["batch_stats"] == [{"batch_size": 1, "count": 12}]
        assert found["batch_reasons"] == {"idle": 12}
    assert control(server, "counted", "load") == 200
    assert load(first, "counted", 2) + load(second, "counted", 3) == [200] * 5
    for client in two:
        found = statistics(client, "counted")
        assert found["inference_count"] == 17
        assert found["batch_reasons"] == {"idle": 5}, "of this load of it"


def test_statistics_are_right_while_requests_run(two: tuple[Client, Client], server: Server) -> None:
    answered = [0, 0]
    stop = threading.Event()

    def work(place: int, client: Client) -> None:
        while not stop.is_set():
            assert client.predict("again").status == 200
            answered[place] += 1

    with clients(server) as ((asking,), _):
        threads = [threading.Thread(target=work, args=item) for item in enumerate(two)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            before = sum(answered)
            told = statistics(asking, "again")["inference_count"]
            assert before <= told <= sum(answered) + len(threads)
        stop.set()
        for thread in threads:
            thread.join()
        assert min(answered) > 0
        assert statistics(asking, "again")["inference_count"] == sum(answered)


def test_metrics_are_the_sum(two: tuple[Client, Client]) -> None:
    first, second = two
    assert load(first, "measured", 4) + load(second, "measured", 6) == [200] * 10
    for client in two:
        text = client.ask("GET", "/metrics").body.decode()
        found = {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"
        }

        def value(name: str, more: str = "", found: dict[str, float] = found) -> float:
            pattern = re.compile(rf'forwardpass_{name}\{{[^}}]*model="measured"[^}}]*{more}')
            (key,) = [key for key in found if pattern.match(key)]
            return found[key]

        assert value("requests_total", 'outcome="ok"') == 10
        assert value("request_seconds_count") == 10
        assert value("batches_by_reason", 'reason="idle"') == 10
        assert value("queue_rows") == value("queue_bytes") == 0
        assert value("model_ready") == value("replicas_ready") == 1


def plain(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """All that must be equal."""
    return answer.status, {name: value for name, value in answer.headers.items() if name != "date"}, answer.body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/v2", 200),
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/v2/models/affine?verbose=1&x=%20y", 200),
        ("GET", "/v2/models/aff%69ne/config", 200),
        ("GET", "/models", 200),
        ("GET", "/openapi.json", 200),
        ("POST", "/v2/repository/index", 200),
        ("GET", "/nothing/here?at=all", 404),
        ("HEAD", "/nothing/here", 404),
        ("GET", "/v2/models/affin", 404),
        ("POST", "/v2/models/affin/infer", 404),
        ("DELETE", "/v2/models/affine", 405),
        ("GET", "/v2/models/affine/infer", 405),
        ("GET", "/v2/repository/models/affine/load", 405),
    ],
)
def test_what_is_relayed_is_answered_alike(two: tuple[Client, Client], method: str, path: str, status: int) -> None:
    first, second = (client.ask(method, path, X_Request_ID="mine", Accept_Encoding="gzip") for client in two)
    assert plain(first) == plain(second)
    assert (first.status, first.headers["x-request-id"]) == (status, "mine")
    again = two[1].ask("GET", "/livez")
    assert again.status == 200, "its connection goes on"


def test_a_body_of_megabytes_is_relayed(two: tuple[Client, Client]) -> None:
    body = json.dumps({"parameters": {"config": "x" * 5_000_000}}).encode()
    first, second = (client.ask("POST", "/v2/repository/models/twin/load", body) for client in two)
    assert plain(first) == plain(second)
    assert (first.status, "config" in first.json["error"]) == (400, True)
    chunked = two[1]
    chunked.connection.request("POST", "/v2/repository/models/twin/load", iter([body[:1000], body[1000:]]))
    assert plain(chunked.receive()) == plain(first)


def test_loading_over_the_other_front(two: tuple[Client, Client]) -> None:
    _, second = two
    assert second.ask("POST", "/v2/repository/models/twin/unload", b"").status == 200
    assert [client.predict("twin").status for client in two] == [404, 404]
    assert second.ask("POST", "/v2/repository/models/twin/load", b"").status == 200
    assert [client.predict("twin").status for client in two] == [200, 200]
