"""The standard services: health by Check and Watch, and reflection by public clients' messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from tests import artifacts
from tests.server.grpc.client import call, connected
from tests.server.process import Server, running

Status = health_pb2.HealthCheckResponse


@pytest.fixture(scope="module")
def channel(served: Server) -> Iterator[grpc.Channel]:
    with connected(served) as channel:
        yield channel


def check(channel: grpc.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status)


def watch(channel: grpc.Channel, service: str) -> Any:
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30)


def test_check(channel: grpc.Channel) -> None:
    assert check(channel, "") == Status.NOT_SERVING  # one of the models is broken
    assert check(channel, "affine") == Status.SERVING
    assert check(channel, "broken") == Status.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        check(channel, "nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert next(watch(channel, "nobody")).status == Status.SERVICE_UNKNOWN


def test_watch_follows_a_model_and_the_end(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "one" / "model.onnx")
    with running([tmp_path], grpc=True) as server, connected(server) as channel:
        whole, one = watch(channel, ""), watch(channel, "one")
        assert next(whole).status == next(one).status == Status.SERVING
        assert check(channel, "inference.GRPCInferenceService") == Status.SERVING
        call(channel, "RepositoryModelUnload", model_name="one")
        assert next(one).status == Status.SERVICE_UNKNOWN
        call(channel, "RepositoryModelLoad", model_name="one")
        later = [next(one).status, Status.SERVING]
        assert Status.SERVING in (later[0], next(one).status if later[0] != Status.SERVING else later[0])
        server.process.terminate()
        assert [answer.status for answer in whole][-1] == Status.NOT_SERVING
        assert server.process.wait(10) == 0


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(channel: grpc.Channel, version: str) -> None:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    wanted = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
    ]
    services, ours, health = ask(iter(wanted), timeout=10)
    names = {service.name for service in services.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    for answer, name in ((ours, "inference"), (health, "grpc.health.v1")):
        (file,) = answer.file_descriptor_response.file_descriptor_proto
        assert descriptor_pb2.FileDescriptorProto.FromString(file).package == name
