"""Inference over gRPC with bare messages: contents of every kind, errors, deadlines, cancellation, limits."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests import artifacts
from tests.server.grpc.client import SERVICE, call, columns, connected, infer, request
from tests.server.http.raw import eventually, sample
from tests.server.process import Server, running

from forwardpass.config import Settings
from forwardpass.errors import InvalidSettings
from forwardpass.server.grpc.generated import inference_pb2 as pb
from forwardpass.server.server import Sockets
from forwardpass.types import DType

Code = grpc.StatusCode
TYPES = [dtype for dtype in DType if dtype not in (DType.FP16, DType.BF16)]


@pytest.fixture(scope="module")
def channel(served: Server) -> Iterator[grpc.Channel]:
    with connected(served) as channel:
        yield channel


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model of each type, a slow one, and a small limit of a message."""
    folder = tmp_path_factory.mktemp("typed")
    for dtype in DType:
        artifacts.identity(folder / dtype.lower() / "model.onnx", dtype, ["N", None])
    artifacts.slow(folder / "slow" / "model.onnx", loops=300)
    (folder / "slow" / "model.yaml").write_text("limits: {max_batch_size: 1, max_queue_size: 3}\n")
    with running([folder], "--max-body-bytes", "65536", "--replicas", "1", grpc=True) as server:
        yield server


def refused(channel: grpc.Channel, message: pb.ModelInferRequest, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, message, **options)
    return caught.value.code(), caught.value.details()


def values(dtype: DType) -> Any:
    if dtype is DType.BYTES:
        return np.array([[b"", b'"q"\n'], ["wörld".encode(), b"x" * 300]], object)
    if dtype is DType.BOOL:
        return np.array([[True, False], [False, True]])
    if dtype.is_float:
        return np.array([[0.1, -0.0], [np.nan, np.inf]], dtype.numpy)
    limits = np.iinfo(dtype.numpy)
    return np.array([[limits.min, limits.max], [0, 1]], dtype.numpy)


def same(one: Any, other: Any) -> bool:
    if one.dtype == object:
        return bool(one.tolist() == other.tolist())
    return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())


@pytest.mark.parametrize("dtype", DType)
def test_every_type_comes_back_to_the_bit_raw(typed: Server, dtype: DType) -> None:
    with connected(typed) as channel:
        answer = infer(channel, request(dtype.lower(), {"x": values(dtype)}))
    assert len(answer.raw_output_contents) == 1
    assert same(columns(answer)["y"], values(dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_typed_contents_are_answered_with_typed_contents(typed: Server, dtype: DType) -> None:
    with connected(typed) as channel:
        answer = infer(channel, request(dtype.lower(), {"x": values(dtype)}, raw=False))
        asked = {"binary_data_output": pb.InferParameter(bool_param=True)}
        raw = infer(channel, request(dtype.lower(), {"x": values(dtype)}, raw=False, parameters=asked))
    assert len(answer.raw_output_contents) == 0
    assert len(raw.raw_output_contents) == 1
    assert same(columns(answer)["y"], values(dtype))
    assert same(columns(raw)["y"], values(dtype))


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [DType.FP32, DType.BYTES])
def test_no_elements(typed: Server, dtype: DType, raw: bool) -> None:
    empty = np.empty((2, 0), dtype.numpy)
    with connected(typed) as channel:
        answer = infer(channel, request(dtype.lower(), {"x": empty}, raw=raw))
    assert columns(answer)["y"].shape == (2, 0)


def test_id_version_and_chosen_outputs(channel: grpc.Channel) -> None:
    message = request("breast-cancer", {"features": np.zeros((1, 30), np.float32)}, id="mine")
    message.outputs.add(name="probabilities")
    answer = infer(channel, message)
    assert (answer.id, answer.model_name, answer.model_version) == ("mine", "breast-cancer", "1")
    assert [output.name for output in answer.outputs] == ["probabilities"]
    for asked, answered in {"": "2", "1": "1", "2": "2"}.items():
        one = request("versions", {"x": np.array([[1, 2]])}, model_version=asked)
        assert infer(channel, one).model_version == answered


def wrong(**changes: Any) -> pb.ModelInferRequest:
    """A good request for `affine` with something wrong in it."""
    message = request("affine", {"x": np.zeros((1, 64), np.float32)})
    for name, value in changes.items():
        target, _, field = name.partition("__")
        item = message.inputs[0] if target == "input" else message
        if isinstance(value, list):
            del getattr(item, field or target)[:]
            getattr(item, field or target).extend(value)
        else:
            setattr(item, field or target, value)
    return message


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (wrong(model_name="afine"), Code.NOT_FOUND, "'affine'"),
        (wrong(model_version="7"), Code.NOT_FOUND, "'7'"),
        (wrong(model_name="broken"), Code.UNAVAILABLE, "broken"),
        (wrong(input__name="z"), Code.INVALID_ARGUMENT, "unknown input 'z'"),
        (wrong(input__datatype="FP64"), Code.INVALID_ARGUMENT, "'x' is FP32, got datatype 'FP64'"),
        (wrong(input__shape=[1, 63]), Code.INVALID_ARGUMENT, "[-1, 64]"),
        (wrong(input__shape=[-1, 64]), Code.INVALID_ARGUMENT, "[-1, 64]"),
        (wrong(input__shape=[2**62, 64]), Code.INVALID_ARGUMENT, "raw bytes"),
        (wrong(raw_input_contents=[b"abc"]), Code.INVALID_ARGUMENT, "256 raw bytes, got 3"),
        (wrong(raw_input_contents=[b"", b""]), Code.INVALID_ARGUMENT, "2 entries for 1 inputs"),
        (wrong(raw_input_contents=[]), Code.INVALID_ARGUMENT, "`fp32_contents` has 0"),
        (wrong(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="z")]), Code.INVALID_ARGUMENT, "'z'"),
        (pb.ModelInferRequest(model_name="affine"), Code.INVALID_ARGUMENT, "missing input 'x'"),
    ],
)
def test_what_is_wrong_is_said(channel: grpc.Channel, message: Any, code: grpc.StatusCode, words: str) -> None:
    found, details = refused(channel, message)
    assert found is code
    assert words in details


def test_contents_in_the_wrong_place(channel: grpc.Channel, typed: Server) -> None:
    both = wrong()
    both.inputs[0].contents.fp32_contents.extend([0.0] * 64)
    assert "send one" in refused(channel, both)[1]
    other = wrong(raw_input_contents=[])
    other.inputs[0].contents.fp64_contents.extend([0.0] * 64)
    assert "`fp64_contents` is not its field" in refused(channel, other)[1]
    other.inputs[0].contents.fp32_contents.extend([0.0] * 64)
    assert "nothing in the other contents" in refused(channel, other)[1]
    half = pb.ModelInferRequest(model_name="half")
    half.inputs.add(name="x", datatype="FP16", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    assert "`raw_input_contents`" in refused(channel, half)[1]
    with connected(typed) as small:
        large = pb.ModelInferRequest(model_name="int8")
        large.inputs.add(name="x", datatype="INT8", shape=[1, 2]).contents.int_contents.extend([1, 128])
        assert refused(small, large) == (Code.INVALID_ARGUMENT, "input 'x': 128 is no INT8 (-128 to 127)")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("timeout", pb.InferParameter(string_param="1"), "microseconds above 0"),
        ("timeout", pb.InferParameter(int64_param=0), "microseconds above 0"),
        ("sequence_id", pb.InferParameter(int64_param=1), "not offered"),
    ],
)
def test_parameters_that_cannot_be_followed(channel: grpc.Channel, name: str, value: Any, words: str) -> None:
    message = request("affine", {"x": np.zeros((1, 64), np.float32)}, parameters={name: value})
    code, details = refused(channel, message)
    assert code is Code.INVALID_ARGUMENT
    assert words in details


def test_bytes_that_are_no_message(channel: grpc.Channel) -> None:
    plain = channel.unary_unary(f"{SERVICE}ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        plain(b"\xff" * 20, timeout=10)
    assert caught.value.code() is Code.INVALID_ARGUMENT


def test_a_method_that_there_is_not(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}TraceSetting")(b"", timeout=10)
    assert caught.value.code() is Code.UNIMPLEMENTED


def test_a_message_over_the_limit(typed: Server) -> None:
    with connected(typed) as channel:
        fits = infer(channel, request("fp32", {"x": np.zeros((4, 4000), np.float32)}))
        assert columns(fits)["y"].shape == (4, 4000)
        code, _ = refused(channel, request("fp32", {"x": np.zeros((5, 4000), np.float32)}))
        assert code is Code.RESOURCE_EXHAUSTED


SLOW = {"x": np.ones((1, 1), np.float32)}


def test_deadlines_of_the_call_and_of_the_request(typed: Server) -> None:
    with connected(typed) as channel:
        began = time.monotonic()
        assert refused(channel, request("slow", SLOW), timeout=0.05)[0] is Code.DEADLINE_EXCEEDED
        asked = {"timeout": pb.InferParameter(int64_param=50_000)}
        code, details = refused(channel, request("slow", SLOW, parameters=asked))
        assert code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)  # where it could not be met, at once
        assert "0.05 s" in details
        assert time.monotonic() - began < 5


def finished(server: Server) -> dict[str, float]:
    """Requests of the slow model that have ended over gRPC, by outcome."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if 'model="slow"' in line and 'door="grpc"' in line and "outcome=" in line]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in found}


def runs(server: Server) -> int:
    """Batches that the slow model has run."""
    with urllib.request.urlopen(f"{server.url}/v2/models/slow/stats", timeout=10) as answer:
        return int(json.load(answer)["model_stats"][0]["execution_count"])


def test_a_cancelled_request_does_not_run(typed: Server) -> None:
    with connected(typed) as channel:
        infer(channel, request("slow", SLOW))
        before, ran = finished(typed).get("cancelled", 0), runs(typed)
        send = channel.unary_unary(f"{SERVICE}ModelInfer", pb.ModelInferRequest.SerializeToString)
        running_now, waiting = (send.future(request("slow", SLOW), timeout=20) for _ in range(2))
        eventually(lambda: sample(typed.port, "forwardpass_queue_rows", model="slow") == 1)
        waiting.cancel()
        running_now.result()
        infer(channel, request("slow", SLOW))
        assert finished(typed).get("cancelled", 0) == before + 1
        assert runs(typed) == ran + 2


def test_a_full_queue_says_when_to_come_again(typed: Server) -> None:
    with connected(typed) as channel:
        send = channel.unary_unary(f"{SERVICE}ModelInfer", pb.ModelInferRequest.SerializeToString)
        sent = [send.future(request("slow", SLOW), timeout=30) for _ in range(12)]
        ended = [call.code() for call in sent]
        assert set(ended) == {Code.OK, Code.UNAVAILABLE}
        refusal = sent[ended.index(Code.UNAVAILABLE)]
        assert "queue is full" in refusal.details()
        assert int(dict(refusal.trailing_metadata())["retry-after"]) >= 1


def test_records_name_the_door(served: Server, channel: grpc.Channel) -> None:
    infer(channel, request("lookup", {"id": np.array([1])}))
    assert refused(channel, request("lookup", {"id": np.array([99])}))[0] in (Code.INVALID_ARGUMENT, Code.INTERNAL)
    with urllib.request.urlopen(f"{served.url}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if 'model="lookup"' in line]
    assert any('door="grpc"' in line and 'outcome="ok"' in line for line in lines)
    assert call(channel, "ServerLive").live
    stats = call(channel, "ModelStatistics", name="lookup").model_stats[0]
    assert stats.inference_count >= 1
    assert any(size.compute_infer.count for size in stats.batch_stats)


def test_a_server_without_the_door_does_not_load_the_library(served: Server, tmp_path: Path) -> None:
    artifacts.affine(tmp_path / "affine" / "model.onnx")
    with running([tmp_path]) as closed:
        assert [_has_library(server) for server in (closed, served)] == [False, True]


def _has_library(server: Server) -> bool:
    return "cygrpc" in Path(f"/proc/{server.pid}/maps").read_text()


def test_a_port_in_use_is_said_before_anything_starts(served: Server) -> None:
    with pytest.raises(
        InvalidSettings, match=f"{served.grpc_port}: .*in use; choose another --grpc-port, or --no-grpc"
    ):
        Sockets.take(Settings(port=0, grpc_port=served.grpc_port or 0))
