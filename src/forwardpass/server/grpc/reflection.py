"""Server reflection: tools list the services and their messages without a ``.proto`` file at hand."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from forwardpass.server.grpc.generated import inference_pb2

NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)  # the same messages under both


def handlers(services: tuple[str, ...]) -> dict[str, Any]:
    """The one method of reflection, over our own descriptor pool and those of the standard services."""
    pool = inference_pb2.DESCRIPTOR.pool
    for standard in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(standard.DESCRIPTOR.serialized_pb)
    servicer = reflection.aio.ReflectionServicer((*services, *NAMES), pool)
    parse = reflection_pb2.ServerReflectionRequest.FromString
    write = reflection_pb2.ServerReflectionResponse.SerializeToString
    return {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(servicer.ServerReflectionInfo, parse, write),
    }
