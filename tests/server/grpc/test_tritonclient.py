"""The public client of the Open Inference Protocol over gRPC, unchanged, against a real server."""

from __future__ import annotations

import queue
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests import artifacts
from tests.server.process import Server, running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own dependencies' deprecations
    from tritonclient import grpc as triton
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
        yield client


def tensor(name: str, value: Any, datatype: str = "") -> Any:
    item = triton.InferInput(name, list(value.shape), datatype or np_to_triton_dtype(value.dtype))
    return item.set_data_from_numpy(value)


def test_health(client: Any) -> None:
    assert client.is_server_live() is True
    assert client.is_server_ready() is False  # one of the models is broken
    assert client.is_model_ready("affine") is True
    assert client.is_model_ready("versions", "1") is True
    assert client.is_model_ready("broken") is False
    assert client.is_model_ready("nobody") is False


def test_metadata(client: Any) -> None:
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "forwardpass"
    assert {"model_repository", "statistics", "model_configuration"} <= set(server["extensions"])
    assert client.get_model_metadata("affine", as_json=True) == {
        "name": "affine",
        "versions": ["1"],
        "platform": "forwardpass_onnxruntime",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "64"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "10"]}],
    }
    assert list(client.get_model_metadata("versions", "1").versions) == ["1", "2"]


def test_config(client: Any) -> None:
    config = client.get_model_config("affine", as_json=True)["config"]
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["64"]}]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": ["10"]}]
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    assert "dynamic_batching" in config
    whole = client.get_model_config("unbatched", "1").config
    assert (whole.max_batch_size, list(whole.input[0].dims)) == (0, [4])
    assert not whole.HasField("dynamic_batching")
    assert client.get_model_config("bytes", as_json=True)["config"]["input"][0]["data_type"] == "TYPE_STRING"


def test_index(client: Any) -> None:
    index = {(item.name, item.version): item for item in client.get_model_repository_index().models}
    assert index["versions", "2"].state == "READY"
    assert index["broken", "1"].state == "UNAVAILABLE"
    assert index["broken", "1"].reason


def test_infer(client: Any) -> None:
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    outputs = [triton.InferRequestedOutput("y")]
    for asked in (None, outputs):
        result = client.infer("affine", [tensor("x", x)], outputs=asked, request_id="mine")
        np.testing.assert_allclose(result.as_numpy("y"), x @ artifacts.weights() + 1, rtol=1e-4, atol=1e-4)
        response = result.get_response()
        assert (response.id, response.model_name, response.model_version) == ("mine", "affine", "1")
        assert list(response.outputs[0].shape) == [3, 10]


def test_two_inputs(client: Any) -> None:
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    result = client.infer("two-inputs", [tensor("b", b), tensor("a", a)])
    np.testing.assert_array_equal(result.as_numpy("total"), a + b)


def test_types(client: Any) -> None:
    texts = np.array([["hello", "wörld"], ["", '"quoted"\n']], dtype=object)
    found = client.infer("bytes", [tensor("x", texts, "BYTES")]).as_numpy("y")
    assert [item.decode() for item in found.ravel()] == texts.ravel().tolist()
    half = np.array([[1.5, -65504.0], [0.0, np.inf]], np.float16)
    np.testing.assert_array_equal(client.infer("half", [tensor("x", half)]).as_numpy("y"), half)
    brain = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(client.infer("brain", [tensor("x", brain, "BF16")]).as_numpy("y"), brain)
    flags = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(client.infer("bool", [tensor("x", flags)]).as_numpy("y"), flags)
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(client.infer("unbatched", [tensor("x", x)]).as_numpy("y"), 2 * x)


def test_versions(client: Any) -> None:
    x = np.array([[1, 2**53 + 1]], np.int64)
    for asked, answered in {"": "2", "1": "1", "2": "2"}.items():
        result = client.infer("versions", [tensor("x", x)], model_version=asked)
        assert result.get_response().model_version == answered
        np.testing.assert_array_equal(result.as_numpy("y"), x)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: Any, algorithm: str) -> None:
    x = np.random.default_rng(2).standard_normal((20, 64)).astype(np.float32)
    result = client.infer("affine", [tensor("x", x)], compression_algorithm=algorithm)
    np.testing.assert_allclose(result.as_numpy("y"), x @ artifacts.weights() + 1, rtol=1e-4, atol=1e-4)


def test_headers_and_parameters_are_no_hindrance(client: Any) -> None:
    x = np.zeros((1, 64), np.float32)
    options = {"headers": {"x-mine": "1"}, "parameters": {"mine": 1}, "timeout": 5_000_000, "priority": 1}
    result = client.infer("affine", [tensor("x", x)], client_timeout=5.0, **options)
    np.testing.assert_array_equal(result.as_numpy("y"), np.ones((1, 10)))


def test_many_at_once(client: Any) -> None:
    answered: queue.Queue[Any] = queue.Queue()
    inputs = [np.full((1, 64), n, np.float32) for n in range(40)]
    for n, x in enumerate(inputs):
        client.async_infer(
            "affine", [tensor("x", x)], lambda result, error: answered.put((result, error)), request_id=str(n)
        )
    for _ in inputs:
        result, error = answered.get(timeout=20)
        assert error is None
        x = inputs[int(result.get_response().id)]
        np.testing.assert_allclose(result.as_numpy("y"), x @ artifacts.weights() + 1, rtol=1e-3)


def test_stream(served: Server) -> None:
    answered: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
        client.start_stream(lambda result, error: answered.put((result, error)))
        for n in range(20):
            client.async_stream_infer("lookup", [tensor("id", np.array([n % 8]))], request_id=str(n))
        client.async_stream_infer("nobody", [tensor("id", np.array([1]))], request_id="lost")
        ended = [answered.get(timeout=20) for _ in range(21)]
    errors = [error for _, error in ended if error is not None]
    found = {result.get_response().id: result.as_numpy("y").tolist() for result, error in ended if error is None}
    assert [error.message() for error in errors] == [errors[0].message()]
    assert "nobody" in errors[0].message()
    assert found == {str(n): [10.0 * (n % 8)] for n in range(20)}


def test_statistics(client: Any) -> None:
    def stats() -> Any:
        (found,) = client.get_inference_statistics("lookup").model_stats
        return found

    before = stats()
    client.infer("lookup", [tensor("id", np.array([1, 2, 3]))])
    with pytest.raises(InferenceServerException):
        client.infer("lookup", [tensor("id", np.array([99]))])
    after = stats()
    assert (after.name, after.version) == ("lookup", "1")
    assert after.inference_count - before.inference_count == 3
    for kind in ("success", "fail"):
        old, new = getattr(before.inference_stats, kind), getattr(after.inference_stats, kind)
        assert new.count - old.count == 1
        assert new.ns > old.ns
    assert any(item.batch_size == 3 and item.compute_infer.count for item in after.batch_stats)
    assert {item.name for item in client.get_inference_statistics().model_stats} >= {"affine", "digits"}


@pytest.mark.parametrize(
    ("model", "version", "value", "status", "words"),
    [
        ("nobody", "", np.zeros((1, 64), np.float32), "NOT_FOUND", "nobody"),
        ("affine", "7", np.zeros((1, 64), np.float32), "NOT_FOUND", "7"),
        ("broken", "", np.zeros((1, 64), np.float32), "UNAVAILABLE", "broken"),
        ("affine", "", np.zeros((1, 63), np.float32), "INVALID_ARGUMENT", "[-1, 64]"),
        ("affine", "", np.zeros((1, 64), np.float64), "INVALID_ARGUMENT", "FP64"),
    ],
)
def test_errors(client: Any, model: str, version: str, value: Any, status: str, words: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [tensor("x", value)], model_version=version)
    assert caught.value.status() == f"StatusCode.{status}"
    assert words in caught.value.message()


def test_shared_memory_is_refused_clearly(client: Any) -> None:
    item = triton.InferInput("x", [1, 64], "FP32")
    item.set_shared_memory("region", 256)
    with pytest.raises(InferenceServerException, match="shared memory is not offered"):
        client.infer("affine", [item])
    output = triton.InferRequestedOutput("y", class_count=3)
    with pytest.raises(InferenceServerException, match="`classification` is not offered"):
        client.infer("affine", [tensor("x", np.zeros((1, 64), np.float32))], outputs=[output])


def test_load_and_unload(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "first" / "model.onnx")
    artifacts.identity(tmp_path / "second" / "model.onnx")
    x = np.array([[1, 2]], np.float32)
    with (
        running([tmp_path], grpc=True) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client,
    ):
        assert client.is_server_ready() is True
        client.unload_model("first")
        assert client.is_model_ready("first") is False
        with pytest.raises(InferenceServerException, match="first"):
            client.infer("first", [tensor("x", x)])
        states = {item.name: item.state for item in client.get_model_repository_index().models}
        assert states == {"first": "UNAVAILABLE", "second": "READY"}
        client.load_model("first")
        np.testing.assert_array_equal(client.infer("first", [tensor("x", x)]).as_numpy("y"), x)
        artifacts.identity(tmp_path / "second" / "model.onnx", shape=("N", 3))
        client.load_model("second")
        assert list(client.get_model_metadata("second").inputs[0].shape) == [-1, 3]
        for name, options, words in (("third", {}, "third"), ("first", {"config": "{}"}, "load parameters")):
            with pytest.raises(InferenceServerException, match=words):
                client.load_model(name, **options)
