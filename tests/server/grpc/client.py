"""A plain client of the gRPC door: our own messages over a bare channel, no client library between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
from tests.server.process import Server

from forwardpass.server.grpc.generated import inference_pb2 as pb
from forwardpass.server.grpc.tensors import fill_contents
from forwardpass.server.tensors import bytes_from_array
from forwardpass.types import Array, Columns, DType

SERVICE = "/inference.GRPCInferenceService/"
TIMEOUT = 20.0


@contextlib.contextmanager
def connected(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def method(channel: grpc.Channel, name: str) -> Any:
    """A method of the service that takes one message and gives one."""
    parse, write = getattr(pb, f"{name}Response").FromString, getattr(pb, f"{name}Request").SerializeToString
    return channel.unary_unary(SERVICE + name, write, parse)


def call(channel: grpc.Channel, method_name: str, **fields: Any) -> Any:
    message = getattr(pb, f"{method_name}Request")(**fields)
    return method(channel, method_name)(message, timeout=TIMEOUT)


def stream(channel: grpc.Channel) -> Any:
    write, parse = pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
    return channel.stream_stream(f"{SERVICE}ModelStreamInfer", write, parse)


def request(model: str, columns: Columns, *, raw: bool = True, **fields: Any) -> pb.ModelInferRequest:
    """An inference request; ``raw`` false puts what has typed contents there."""
    message = pb.ModelInferRequest(model_name=model, **fields)
    for name, array in columns.items():
        dtype = DType.of(array)
        tensor = message.inputs.add(name=name, datatype=dtype, shape=array.shape)
        if raw:
            message.raw_input_contents.append(bytes_from_array(array))
        else:
            fill_contents(tensor.contents, dtype, array)
    return message


def infer(channel: grpc.Channel, message: pb.ModelInferRequest, **options: Any) -> pb.ModelInferResponse:
    answer: pb.ModelInferResponse = method(channel, "ModelInfer")(message, **{"timeout": TIMEOUT, **options})
    return answer


def columns(response: pb.ModelInferResponse) -> Columns:
    """What an answer holds, read by the protocol's rules and none of the server's code."""
    raws = list(response.raw_output_contents)
    assert len(raws) in (0, len(response.outputs))
    return {output.name: _array(output, raws[i] if raws else None) for i, output in enumerate(response.outputs)}


def _array(output: Any, raw: bytes | None) -> Array:
    dtype = DType(output.datatype)
    if raw is None:
        ((_, values),) = output.contents.ListFields() or ((None, []),)
        array: Array = np.array(list(values), dtype.numpy)
    elif dtype is DType.BYTES:
        pieces = []
        while raw:
            size = int.from_bytes(raw[:4], "little")
            pieces.append(raw[4 : 4 + size])
            raw = raw[4 + size :]
        array = np.array(pieces, object)
    else:
        array = np.frombuffer(raw, dtype.numpy)
    return array.reshape(tuple(output.shape))
