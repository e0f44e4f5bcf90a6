"""V2 over gRPC, clause by clause, with messages of the kit's own: health, metadata, inference, errors, extensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tests.conformance import rows
from tests.conformance.messages import METHODS, kind, message
from tests.conformance.target import Target

NOBODY = "no-such-model"
TYPED = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
REFUSED = {grpc.StatusCode.INVALID_ARGUMENT}
MISSING = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE}


class Calls:
    """Each rpc of the service by its name."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._metadata: dict[str, Any] = {}

    def __call__(self, rpc: str, request: Any, timeout: float = 20) -> Any:
        call = self._channel.unary_unary(*self._of(rpc))
        return call(request, timeout=timeout)

    def stream(self, requests: Iterator[Any]) -> Any:
        call = self._channel.stream_stream(*self._of("ModelStreamInfer"))
        return call(requests, timeout=20)

    def metadata(self, model: str) -> dict[str, Any]:
        """In the words of HTTP; asked for once."""
        if model not in self._metadata:
            self._metadata[model] = self._ask_metadata(model)
        return dict(self._metadata[model])

    def _ask_metadata(self, model: str) -> dict[str, Any]:
        said = self("ModelMetadata", message("Named", name=model))
        tensors = {
            side: [{"name": item.name, "datatype": item.datatype, "shape": list(item.shape)} for item in found]
            for side, found in (("inputs", said.inputs), ("outputs", said.outputs))
        }
        return {"name": said.name, "versions": list(said.versions), "platform": said.platform, **tensors}

    @staticmethod
    def _of(rpc: str) -> tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]]:
        request, response = METHODS[rpc]
        return f"/inference.GRPCInferenceService/{rpc}", kind(request).SerializeToString, kind(response).FromString


@pytest.fixture(scope="module")
def calls(grpc_address: str) -> Iterator[Calls]:
    with grpc.insecure_channel(grpc_address) as channel:
        yield Calls(channel)


def request(calls: Calls, model: str, columns: dict[str, Any] | None = None, *, raw: bool = True, **more: Any) -> Any:
    """A request with these rows, or with rows made from the metadata."""
    about = calls.metadata(model)
    types = rows.datatypes(about)
    given = rows.make(about) if columns is None else columns
    asked = message("ModelInferRequest", model_name=model, **more)
    for name, array in given.items():
        tensor = asked.inputs.add(name=name, datatype=types[name], shape=array.shape)
        if raw:
            asked.raw_input_contents.append(rows.raw(array))
        else:
            getattr(tensor.contents, TYPED[types[name]]).extend(array.reshape(-1).tolist())
    return asked


def outputs(answer: Any) -> dict[str, rows.Array]:
    """By name, raw or typed, never both."""
    found = {}
    for index, item in enumerate(answer.outputs):
        if answer.raw_output_contents:
            assert not item.HasField("contents")
            found[item.name] = rows.from_raw(answer.raw_output_contents[index], item.datatype, list(item.shape))
        elif item.datatype == "BYTES":
            found[item.name] = rows.objects(list(item.contents.bytes_contents), tuple(item.shape))
        else:
            data = getattr(item.contents, TYPED[item.datatype])
            found[item.name] = np.array(list(data), rows.TYPES[item.datatype]).reshape(list(item.shape))
    assert len(answer.raw_output_contents) in (0, len(answer.outputs))
    return found


def fails(calls: Calls, rpc: str, asked: Any, codes: set[grpc.StatusCode]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        calls(rpc, asked)
    assert caught.value.code() in codes, caught.value
    assert caught.value.details()
    return str(caught.value.details())


# Health and metadata


def test_health(calls: Calls, model: str) -> None:
    """ServerLive, ServerReady, ModelReady: OK, and true."""
    assert calls("ServerLive", message("Empty")).live is True
    assert calls("ServerReady", message("Empty")).ready is True
    assert calls("ModelReady", message("Named", name=model)).ready is True
    for version in calls.metadata(model)["versions"]:
        assert calls("ModelReady", message("Named", name=model, version=version)).ready is True


def test_a_model_that_is_not_there_is_not_ready(calls: Calls) -> None:
    """ModelReady: false, or another code than OK."""
    try:
        assert calls("ModelReady", message("Named", name=NOBODY)).ready is False
    except grpc.RpcError as error:
        code = error.code()
        if code is not grpc.StatusCode.NOT_FOUND:
            raise


def test_server_metadata(calls: Calls) -> None:
    """ServerMetadata: name, version, extensions."""
    said = calls("ServerMetadata", message("Empty"))
    assert said.name
    assert said.version


def test_model_metadata_is_that_of_http(calls: Calls, target: Target, model: str) -> None:
    """ModelMetadata: the concepts of the HTTP API."""
    said, other = calls.metadata(model), target.metadata(model)
    assert said == {key: other[key] for key in said}


def test_metadata_of_no_model(calls: Calls, model: str) -> None:
    """ModelMetadata: another code than OK."""
    fails(calls, "ModelMetadata", message("Named", name=NOBODY), MISSING)
    fails(calls, "ModelMetadata", message("Named", name=model, version="987654"), MISSING)


# Inference


def test_the_answer_is_that_of_http(calls: Calls, target: Target, model: str) -> None:
    """ModelInfer, raw contents: model, id, and outputs; the same as over HTTP."""
    answer = calls("ModelInfer", request(calls, model, id="42"))
    assert (answer.model_name, answer.id) == (model, "42")
    about = target.metadata(model)
    said = target.infer(model, rows.as_json(rows.make(about), rows.datatypes(about))).good
    assert answer.model_version == said["model_version"]
    assert rows.same(outputs(answer), rows.outputs_of(said))
    described = {spec["name"]: spec["datatype"] for spec in about["outputs"]}
    assert {item.name: item.datatype for item in answer.outputs} == described


def test_typed_contents_are_the_same_request(calls: Calls, model: str) -> None:
    """InferTensorContents: the repeated field that matches the datatype; FP16 and BF16 have none."""
    if {spec["datatype"] for spec in calls.metadata(model)["inputs"]} & {"FP16", "BF16"}:
        pytest.skip("the model takes 16-bit floats, for which there is no typed field")
    typed, raw = (calls("ModelInfer", request(calls, model, raw=raw)) for raw in (False, True))
    assert rows.same(outputs(typed), outputs(raw))


def test_by_version(calls: Calls, model: str) -> None:
    """ModelInfer, model_version: the one that answers."""
    for version in calls.metadata(model)["versions"]:
        assert calls("ModelInfer", request(calls, model, model_version=version)).model_version == version


def test_only_the_outputs_asked_for(calls: Calls, model: str) -> None:
    """ModelInfer, outputs: those named, else all."""
    every = outputs(calls("ModelInfer", request(calls, model)))
    for name in every:
        asked = request(calls, model, outputs=[message("RequestedOutput", name=name)])
        assert rows.same(outputs(calls("ModelInfer", asked)), {name: every[name]})


def test_parameters_that_nobody_defined(calls: Calls, model: str) -> None:
    """Parameters: boolean, integer or text, at each of their places."""
    asked = request(calls, model)
    for place in (asked.parameters, asked.inputs[0].parameters):
        place["kit_flag"].bool_param = True
        place["kit_number"].int64_param = 3
        place["kit_text"].string_param = "x"
    assert outputs(calls("ModelInfer", asked))


def test_many_at_once(calls: Calls, model: str) -> None:
    """ModelStreamInfer (extension): each request is answered, by its id; an error does not end the stream."""
    expected = outputs(calls("ModelInfer", request(calls, model)))
    asked = [request(calls, model, id=str(index)) for index in range(20)]
    asked[7].inputs[0].name = "no such input"
    asked[9].model_name = NOBODY
    try:
        said = list(calls.stream(iter(asked)))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        pytest.skip("the server does not offer ModelStreamInfer")
    assert len(said) == len(asked)
    good = {item.infer_response.id: item.infer_response for item in said if not item.error_message}
    assert set(good) == {str(index) for index in range(20)} - {"7", "9"}
    assert all(rows.same(outputs(answer), expected) for answer in good.values())


# Errors


def another_type(asked: Any) -> None:
    asked.inputs[0].datatype = "FP64" if asked.inputs[0].datatype != "FP64" else "INT8"


WRONG: dict[str, Callable[[Any], object]] = {
    "another datatype": another_type,
    "no datatype of the protocol": lambda asked: setattr(asked.inputs[0], "datatype", "FLOAT"),
    "an axis more": lambda asked: asked.inputs[0].shape.extend([1, 1]),
    "no axes": lambda asked: asked.inputs[0].ClearField("shape"),
    "a negative axis": lambda asked: asked.inputs[0].shape.__setitem__(0, -2),
    "a huge axis": lambda asked: asked.inputs[0].shape.__setitem__(0, 2**62),
    "an unknown input": lambda asked: setattr(asked.inputs[0], "name", "no such input"),
    "an input twice": lambda asked: (asked.inputs.append(asked.inputs[0]),
                                     asked.raw_input_contents.append(asked.raw_input_contents[0])),
    "no inputs": lambda asked: (asked.ClearField("inputs"), asked.ClearField("raw_input_contents")),
    "no contents": lambda asked: asked.ClearField("raw_input_contents"),
    "contents for no input": lambda asked: asked.raw_input_contents.append(b"1234"),
    "too few bytes": lambda asked: asked.raw_input_contents.__setitem__(0, asked.raw_input_contents[0][:-1]),
    "too many bytes": lambda asked: asked.raw_input_contents.__setitem__(0, asked.raw_input_contents[0] + b"1"),
    "raw and typed": lambda asked: asked.inputs[0].contents.bool_contents.append(True),
    "an unknown output": lambda asked: asked.outputs.add(name="no such output"),
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_request(calls: Calls, model: str, change: Callable[[Any], object]) -> None:
    """ModelInfer: INVALID_ARGUMENT and a message, where the request is wrong in one way."""
    asked = request(calls, model)
    change(asked)
    fails(calls, "ModelInfer", asked, REFUSED)


@pytest.mark.parametrize("change", ["short", "long", "another field"])
def test_wrong_typed_contents(calls: Calls, model: str, change: str) -> None:
    """InferTensorContents: the size must match the shape, the field the datatype."""
    about = calls.metadata(model)
    if {spec["datatype"] for spec in about["inputs"]} & {"FP16", "BF16"}:
        pytest.skip("the model takes 16-bit floats, for which there is no typed field")
    asked = request(calls, model, raw=False)
    contents = asked.inputs[0].contents
    field = getattr(contents, TYPED[asked.inputs[0].datatype])
    if change == "short":
        del field[-1]
    elif change == "long":
        field.append(field[0])
    else:
        count = len(field)
        del field[:]
        other = "bytes_contents" if asked.inputs[0].datatype != "BYTES" else "fp64_contents"
        getattr(contents, other).extend([b"1" if other == "bytes_contents" else 1.0] * count)
    fails(calls, "ModelInfer", asked, REFUSED)


def test_a_model_that_is_not_there(calls: Calls, model: str) -> None:
    """ModelInfer: another code than OK where there is no such model or version."""
    fails(calls, "ModelInfer", message("ModelInferRequest", model_name=NOBODY), MISSING)
    fails(calls, "ModelInfer", request(calls, model, model_version="987654"), MISSING)


def test_bytes_that_are_no_message(calls: Calls, grpc_address: str) -> None:
    """A request that cannot be parsed ends with an error, and harms nobody."""
    with grpc.insecure_channel(grpc_address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for data in (b"\xff" * 10, b"\x2a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe"):
            with pytest.raises(grpc.RpcError):
                call(data, timeout=20)
    assert calls("ServerLive", message("Empty")).live


# What only the kit's own models can show


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("datatype", TYPED)
def test_edges_of_typed_contents(calls: Calls, datatype: str) -> None:
    """InferTensorContents: the smallest and the largest value of the type."""
    kind = np.dtype(rows.TYPES[datatype])
    edges = [np.iinfo(kind).min, np.iinfo(kind).max] if kind.kind in "iu" else [0, 1]
    texts = rows.objects([b"", "ä".encode()], (1, 2))
    edge = texts if datatype == "BYTES" else np.array([edges], kind)
    model = "numbers-and-texts"
    columns = {
        spec["name"]: edge if spec["datatype"] == datatype else rows.values(spec["datatype"], (1, 2))
        for spec in calls.metadata(model)["inputs"]
    }
    found = outputs(calls("ModelInfer", request(calls, model, columns, raw=False)))
    assert rows.raw(found[f"y_{datatype}"]) == rows.raw(edge)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("datatype", "field", "value"), [
    ("UINT8", "uint_contents", 256), ("UINT16", "uint_contents", 2**16), ("INT8", "int_contents", 128),
    ("INT8", "int_contents", -129), ("INT16", "int_contents", 2**15),
])  # fmt: skip
def test_one_beyond_the_edge(calls: Calls, datatype: str, field: str, value: int) -> None:
    """InferTensorContents: a value that the datatype cannot hold is refused, not wrapped."""
    asked = request(calls, "numbers-and-texts", raw=False)
    for tensor in asked.inputs:
        if tensor.datatype == datatype:
            getattr(tensor.contents, field)[0] = value
    fails(calls, "ModelInfer", asked, REFUSED)


@pytest.mark.usefixtures("own")
def test_no_rows(calls: Calls) -> None:
    """Shape: an axis may be 0; raw contents are then empty, one for each input."""
    about = calls.metadata("every-type")
    columns = {spec["name"]: rows.values(spec["datatype"], (0, 2)) for spec in about["inputs"]}
    found = outputs(calls("ModelInfer", request(calls, "every-type", columns)))
    assert {array.shape for array in found.values()} == {(0, 2)}


@pytest.mark.usefixtures("own")
def test_a_scalar(calls: Calls) -> None:
    """Shape: no axes is one element."""
    found = outputs(calls("ModelInfer", request(calls, "scalar", {"x": np.ones((2, 2), np.float32)})))
    assert (found["y"].shape, float(found["y"])) == ((), 4.0)


# Extensions


def test_the_index(calls: Calls, target: Target, model: str) -> None:
    """RepositoryIndex: as over HTTP."""
    said = calls("RepositoryIndex", message("RepositoryIndexRequest", ready=True)).models
    assert {item.state for item in said} == {"READY"}
    assert model in {item.name for item in said}


def test_statistics_count(calls: Calls, model: str) -> None:
    """ModelStatistics: requests add up."""
    before, after = None, None
    for _ in range(2):
        before, after = after, calls("ModelStatistics", message("Named", name=model)).model_stats[-1]
        calls("ModelInfer", request(calls, model))
    assert before is not None
    assert after is not None
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    fails(calls, "ModelStatistics", message("Named", name=NOBODY), MISSING)


def test_configuration(calls: Calls, target: Target, model: str) -> None:
    """ModelConfig: as over HTTP."""
    config = calls("ModelConfig", message("Named", name=model)).config
    other = target.get(f"/v2/models/{model}/config").good
    assert (config.name, config.max_batch_size) == (model, other["max_batch_size"])
    fails(calls, "ModelConfig", message("Named", name=NOBODY), MISSING)


@pytest.mark.usefixtures("own")
def test_unload_and_load(calls: Calls) -> None:
    """RepositoryModelUnload, RepositoryModelLoad: what is unloaded cannot answer."""
    calls("RepositoryModelUnload", message("RepositoryModelRequest", model_name="spare"))
    fails(calls, "ModelInfer", message("ModelInferRequest", model_name="spare"), MISSING)
    calls("RepositoryModelLoad", message("RepositoryModelRequest", model_name="spare"))
    assert outputs(calls("ModelInfer", request(calls, "spare")))
    fails(calls, "RepositoryModelLoad", message("RepositoryModelRequest", model_name=NOBODY), MISSING)
