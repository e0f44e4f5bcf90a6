"""The public client of the Open Inference Protocol, unchanged, against a real server."""

from __future__ import annotations

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
    from tritonclient import http as triton
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        yield client


def tensor(name: str, value: Any, datatype: str = "", *, binary: bool = True) -> Any:
    item = triton.InferInput(name, list(value.shape), datatype or np_to_triton_dtype(value.dtype))
    item.set_data_from_numpy(value, binary_data=binary)
    return item


def message(caught: pytest.ExceptionInfo[Any]) -> tuple[str, str]:
    return str(caught.value.status()), str(caught.value.message())


def test_health(client: Any) -> None:
    assert client.is_server_live() is True
    assert client.is_server_ready() is False  # one of the models is broken
    assert client.is_model_ready("affine") is True
    assert client.is_model_ready("versions", "1") is True
    assert client.is_model_ready("broken") is False
    assert client.is_model_ready("nobody") is False


def test_metadata(client: Any) -> None:
    server = client.get_server_metadata()
    assert server["name"] == "forwardpass"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(server["extensions"])
    assert client.get_model_metadata("affine") == {
        "name": "affine",
        "versions": ["1"],
        "platform": "forwardpass_onnxruntime",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}],
    }
    assert client.get_model_metadata("versions", "1")["versions"] == ["1", "2"]


def test_config(client: Any) -> None:
    config = client.get_model_config("affine")
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [64]}]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [10]}]
    whole = client.get_model_config("unbatched", "1")
    assert (whole["max_batch_size"], whole["input"][0]["dims"]) == (0, [4])
    assert "dynamic_batching" not in whole
    assert client.get_model_config("bytes")["input"][0]["data_type"] == "TYPE_STRING"


def test_index(client: Any) -> None:
    index = {(item["name"], item["version"]): item for item in client.get_model_repository_index()}
    assert index["versions", "2"]["state"] == "READY"
    assert index["broken", "1"]["state"] == "UNAVAILABLE"
    assert index["broken", "1"]["reason"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_infer(client: Any, binary_in: bool, binary_out: bool | None) -> None:
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    outputs = None if binary_out is None else [triton.InferRequestedOutput("y", binary_data=binary_out)]
    result = client.infer("affine", [tensor("x", x, binary=binary_in)], outputs=outputs, request_id="mine")
    np.testing.assert_allclose(result.as_numpy("y"), x @ artifacts.weights() + 1, rtol=1e-4, atol=1e-4)
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("mine", "affine", "1")
    assert response["outputs"][0]["shape"] == [3, 10]
    assert ("data" in response["outputs"][0]) is (binary_out is False)


def test_two_inputs_one_of_them_raw(client: Any) -> None:
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    result = client.infer("two-inputs", [tensor("a", a, binary=False), tensor("b", b)])
    np.testing.assert_array_equal(result.as_numpy("total"), a + b)


def test_only_the_requested_outputs_come_back(client: Any) -> None:
    x = np.zeros((1, 30), np.float32)
    wanted = [triton.InferRequestedOutput("probabilities")]
    result = client.infer("breast-cancer", [tensor("features", x)], outputs=wanted)
    assert [item["name"] for item in result.get_response()["outputs"]] == ["probabilities"]
    assert result.as_numpy("probabilities").shape == (1, 2)


@pytest.mark.parametrize("binary", [True, False])
def test_byte_strings(client: Any, binary: bool) -> None:
    x = np.array([["hello", "wörld"], ["", '"quoted"\n']], dtype=object)
    outputs = [triton.InferRequestedOutput("y", binary_data=binary)]
    result = client.infer("bytes", [tensor("x", x, "BYTES", binary=binary)], outputs=outputs)
    found = [item.decode() if isinstance(item, bytes) else item for item in result.as_numpy("y").ravel()]
    assert found == x.ravel().tolist()


def test_half_precision(client: Any) -> None:
    x = np.array([[1.5, -65504.0], [0.0, np.inf]], np.float16)
    result = client.infer("half", [tensor("x", x)])
    assert result.as_numpy("y").dtype == np.float16
    np.testing.assert_array_equal(result.as_numpy("y"), x)


def test_bfloat16(client: Any) -> None:
    x = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    result = client.infer("brain", [tensor("x", x, "BF16")])
    np.testing.assert_array_equal(result.as_numpy("y").astype(np.float32), x.astype(np.float32))


@pytest.mark.parametrize("binary", [True, False])
def test_booleans(client: Any, binary: bool) -> None:
    x = np.array([[True, False], [False, True]])
    result = client.infer("bool", [tensor("x", x, binary=binary)])
    np.testing.assert_array_equal(result.as_numpy("y"), x)


def test_a_model_without_rows(client: Any) -> None:
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(client.infer("unbatched", [tensor("x", x)]).as_numpy("y"), 2 * x)


def test_versions(client: Any) -> None:
    x = np.array([[1, 2**53 + 1]], np.int64)
    for asked, answered in {"": "2", "1": "1", "2": "2"}.items():
        result = client.infer("versions", [tensor("x", x, binary=False)], model_version=asked)
        assert result.get_response()["model_version"] == answered
        np.testing.assert_array_equal(result.as_numpy("y"), x)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression_both_ways(client: Any, algorithm: str, binary: bool) -> None:
    x = np.random.default_rng(2).standard_normal((20, 64)).astype(np.float32)
    result = client.infer(
        "affine",
        [tensor("x", x, binary=binary)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_allclose(result.as_numpy("y"), x @ artifacts.weights() + 1, rtol=1e-4, atol=1e-4)


def test_query_parameters_headers_and_parameters_are_no_hindrance(client: Any) -> None:
    x = np.zeros((1, 64), np.float32)
    result = client.infer(
        "affine",
        [tensor("x", x)],
        query_params={"mine": 1},
        headers={"X-Mine": "1"},
        parameters={"mine": 1},
        timeout=5_000_000,
        priority=1,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), np.ones((1, 10)))


def test_many_at_once(served: Server) -> None:
    with triton.InferenceServerClient(served.url.removeprefix("http://"), concurrency=8) as client:
        inputs = [np.full((1, 64), n, np.float32) for n in range(40)]
        waiting = [client.async_infer("affine", [tensor("x", x)], request_id=str(n)) for n, x in enumerate(inputs)]
        for n, (x, handle) in enumerate(zip(inputs, waiting, strict=True)):
            result = handle.get_result()
            assert result.get_response()["id"] == str(n)
            np.testing.assert_allclose(result.as_numpy("y"), x @ artifacts.weights() + 1, rtol=1e-3)


def test_statistics(client: Any) -> None:
    def stats() -> Any:
        (found,) = client.get_inference_statistics("lookup")["model_stats"]
        return found

    before = stats()
    client.infer("lookup", [tensor("id", np.array([1, 2, 3]))])
    with pytest.raises(InferenceServerException):
        client.infer("lookup", [tensor("id", np.array([99]))])
    after = stats()
    assert (after["name"], after["version"]) == ("lookup", "1")
    assert after["inference_count"] - before["inference_count"] == 3
    for kind in ("success", "fail"):
        old, new = before["inference_stats"][kind], after["inference_stats"][kind]
        assert new["count"] - old["count"] == 1
        assert new["ns"] > old["ns"]
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert any(item["batch_size"] == 3 for item in after["batch_stats"])
    assert {item["name"] for item in client.get_inference_statistics()["model_stats"]} >= {"affine", "digits"}


@pytest.mark.parametrize(
    ("model", "version", "value", "status", "words"),
    [
        ("nobody", "", np.zeros((1, 64), np.float32), "404", "nobody"),
        ("affine", "7", np.zeros((1, 64), np.float32), "404", "7"),
        ("broken", "", np.zeros((1, 64), np.float32), "503", "broken"),
        ("affine", "", np.zeros((1, 63), np.float32), "400", "[-1, 64]"),
        ("affine", "", np.zeros((1, 64), np.float64), "400", "FP64"),
        ("affine", "", np.zeros((64,), np.float32), "400", "[-1, 64]"),
    ],
)
def test_errors(client: Any, model: str, version: str, value: Any, status: str, words: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [tensor("x", value)], model_version=version)
    found, text = message(caught)
    assert found == status
    assert words in text


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"), [("z", "y", "unknown input 'z'"), ("x", "z", "unknown output 'z'")]
)
def test_wrong_names(client: Any, inputs: str, outputs: str, words: str) -> None:
    x = np.zeros((1, 64), np.float32)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("affine", [tensor(inputs, x)], outputs=[triton.InferRequestedOutput(outputs)])
    found, text = message(caught)
    assert found == "400"
    assert words in text


def test_what_is_not_offered_is_refused_clearly(client: Any) -> None:
    for call in (client.get_system_shared_memory_status, client.get_trace_settings, client.get_log_settings):
        with pytest.raises(InferenceServerException) as caught:
            call()
        found, text = message(caught)
        assert found == "404"
        assert "there is nothing at /v2/" in text


def test_load_and_unload(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "first" / "model.onnx")
    artifacts.identity(tmp_path / "second" / "model.onnx")
    x = np.array([[1, 2]], np.float32)
    with running([tmp_path]) as server, triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_ready() is True
        client.unload_model("first")
        assert client.is_model_ready("first") is False
        with pytest.raises(InferenceServerException) as caught:
            client.infer("first", [tensor("x", x)])
        assert message(caught)[0] == "404"
        states = {item["name"]: item["state"] for item in client.get_model_repository_index()}
        assert states == {"first": "UNAVAILABLE", "second": "READY"}
        client.load_model("first")
        np.testing.assert_array_equal(client.infer("first", [tensor("x", x)]).as_numpy("y"), x)
        artifacts.identity(tmp_path / "second" / "model.onnx", shape=("N", 3))
        client.load_model("second")
        assert client.get_model_metadata("second")["inputs"][0]["shape"] == [-1, 3]
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("third")
        assert message(caught)[0] == "404"
