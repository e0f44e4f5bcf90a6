"""``grpc.health.v1``: the server as a whole (the empty name, or the service's), and each model by its name."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from forwardpass.errors import NotFound, NotReady
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.grpc.status import abort

NAME = "grpc.health.v1.Health"
_Status = health_pb2.HealthCheckResponse


class Health:
    """Asks the data plane; ``changed`` tells those who watch to look again, ``close`` ends their calls."""

    def __init__(self, dataplane: DataPlane, service: str) -> None:
        self._dataplane = dataplane
        self._whole = ("", service)
        self._change = asyncio.Event()
        self._closed = False

    def changed(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()

    def close(self) -> None:
        self._closed = True
        self.changed()

    def handlers(self) -> dict[str, Any]:
        parse, write = health_pb2.HealthCheckRequest.FromString, _Status.SerializeToString
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, parse, write),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, parse, write),
        }

    async def check(self, request: Any, context: Any) -> Any:
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            await abort(context, NotFound(f"there is no model or service {request.service!r}"))
        return _Status(status=status)

    async def watch(self, request: Any, context: Any) -> None:
        told = None
        while True:
            change, status = self._change, self._status(request.service)
            if status != told:
                await context.write(_Status(status=status))
                told = status
            if self._closed:
                return
            await change.wait()

    def _status(self, name: str) -> int:
        try:
            if name in self._whole or self._dataplane.draining:
                self._dataplane.require_ready()
            else:
                self._dataplane.model(name).require_ready()
        except NotFound:
            return int(_Status.SERVICE_UNKNOWN)
        except NotReady:
            return int(_Status.NOT_SERVING)
        return int(_Status.SERVING)
