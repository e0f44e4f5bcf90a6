"""``ModelStreamInfer``: every request answered once, in order of completion, errors among the answers."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests import artifacts
from tests.server.grpc.client import columns, connected, request, stream
from tests.server.process import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("stream")
    artifacts.slow(folder / "slow" / "model.onnx", loops=300)
    artifacts.lookup(folder / "lookup" / "model.onnx")
    with running([folder], grpc=True) as server:
        yield server


def lookup(value: int, **fields: Any) -> Any:
    return request("lookup", {"id": np.array([value])}, **fields)


def test_many_requests_each_answered_once(server: Server) -> None:
    count = 1000  # more than may be under way at a time
    with connected(server) as channel:
        answers = list(stream(channel)((lookup(n % 8, id=str(n)) for n in range(count)), timeout=30))
    assert all(not answer.error_message for answer in answers)
    found = {answer.infer_response.id: columns(answer.infer_response)["y"].tolist() for answer in answers}
    assert len(answers) == count
    assert found == {str(n): [10.0 * (n % 8)] for n in range(count)}


def test_the_fast_overtake_the_slow_and_errors_are_answers(server: Server) -> None:
    slow = request("slow", {"x": np.ones((1, 1), np.float32)}, id="slow")
    messages = [slow, lookup(1, id="good"), lookup(99, id="bad"), request("nobody", {}, id="unknown")]
    with connected(server) as channel:
        answers = list(stream(channel)(iter(messages), timeout=30))
    ids = [answer.infer_response.id for answer in answers]
    assert sorted(ids) == ["bad", "good", "slow", "unknown"]
    assert ids[-1] == "slow"
    errors = {answer.infer_response.id: answer.error_message for answer in answers if answer.error_message}
    assert errors.keys() == {"bad", "unknown"}
    assert "nobody" in errors["unknown"]


def test_a_stream_stays_open_between_requests(server: Server) -> None:
    sent: queue.Queue[Any] = queue.Queue()
    with connected(server) as channel:
        answers = stream(channel)(iter(sent.get, None), timeout=30)
        for value in (1, 2, 3):
            sent.put(lookup(value))
            assert columns(next(answers).infer_response)["y"].tolist() == [10.0 * value]
        sent.put(None)
        assert list(answers) == []


def test_a_client_that_leaves_its_stream_harms_nobody(server: Server) -> None:
    sent: queue.Queue[Any] = queue.Queue()
    with connected(server) as channel:
        answers = stream(channel)(iter(sent.get, None), timeout=30)
        for _ in range(20):
            sent.put(request("slow", {"x": np.ones((1, 1), np.float32)}))
        next(answers)
        answers.cancel()
        sent.put(None)
        (answer,) = stream(channel)(iter([lookup(5)]), timeout=10)
        assert columns(answer.infer_response)["y"].tolist() == [50.0]


def test_stopping_answers_what_was_read_and_ends_idle_streams(tmp_path: Path) -> None:
    artifacts.slow(tmp_path / "slow" / "model.onnx", loops=300)
    with running([tmp_path], "--drain-timeout", "10", grpc=True) as server, connected(server) as channel:
        sent: queue.Queue[Any] = queue.Queue()
        answers = stream(channel)(iter(sent.get, None), timeout=30)
        sent.put(request("slow", {"x": np.ones((1, 1), np.float32)}, id="1"))
        next(answers)
        sent.put(request("slow", {"x": np.ones((1, 1), np.float32)}, id="2"))
        idle = stream(channel)(iter(queue.Queue().get, None), timeout=30)
        plain = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        under_way = plain.future(request("slow", {"x": np.ones((1, 1), np.float32)}).SerializeToString(), timeout=20)
        import time

        time.sleep(0.1)
        server.process.terminate()
        assert under_way.result()
        last = next(answers)
        assert (last.infer_response.id, last.error_message) == ("2", "")
        for ended in (answers, idle):
            with pytest.raises(grpc.RpcError) as caught:
                next(ended)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        sent.put(None)
        assert server.process.wait(10) == 0
