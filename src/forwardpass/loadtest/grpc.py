"""gRPC connections that send prepared messages: one channel each, bytes in and bytes out.

Knows the name of the method and no message: whoever prepares the bytes knows those. A gRPC status
is told as the HTTP status of the same meaning, so that results of all doors read alike.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from forwardpass.loadtest.target import Connection, Listener, Target

INFER = "/inference.GRPCInferenceService/ModelInfer"
CONNECT_TIMEOUT = 5.0
_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_GONE = ("failed to connect", "socket closed", "connection reset", "broken pipe", "goaway")
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True)
class GrpcTarget(Target):
    """``requests`` are serialised messages of ``method``; ``address`` is ``host:port``.

    ``timeout`` is the deadline in seconds that each call carries.
    """

    address: str = "127.0.0.1:8001"
    method: str = INFER
    timeout: float | None = None

    async def connect(self, listener: Listener) -> Connection:
        import grpc

        channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        try:
            await asyncio.wait_for(channel.channel_ready(), CONNECT_TIMEOUT)
        except TimeoutError:
            await channel.close()
            raise ConnectionRefusedError(f"no gRPC server answers at {self.address}") from None
        return GrpcConnection(listener, channel, self.method, self.timeout)


class GrpcConnection(Connection):
    """One channel with its own socket."""

    def __init__(self, listener: Listener, channel: Any, method: str, timeout: float | None) -> None:
        super().__init__(listener)
        self._channel = channel
        self._method = channel.unary_unary(method)
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None

    def send(self, request: bytes) -> None:
        self.busy = True
        self._task = asyncio.ensure_future(self._call(request))

    def close(self) -> None:
        self.left = True
        if self._task is not None:
            self._task.cancel()
        self._closing = asyncio.ensure_future(self._channel.close())

    async def _call(self, request: bytes) -> None:
        import grpc

        try:
            body = await self._method(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            self._failed(error)
            return
        self._tell(200, b"", body)

    def _failed(self, error: Any) -> None:
        details = str(error.details())
        if error.code().name == "UNAVAILABLE" and any(word in details.lower() for word in _GONE):
            self.busy = False
            if not self.left:
                self.left = True
                self._closing = asyncio.ensure_future(self._channel.close())
                self.listener.broken(self, "connection closed")
            return
        metadata = error.trailing_metadata() or ()
        head = "".join(f"\r\n{name}: {value}" for name, value in metadata)
        self._tell(_STATUS.get(error.code().name, 500), head.encode(), details.encode())

    def _tell(self, status: int, head: bytes, body: bytes) -> None:
        if not self.left:
            self.busy = False
            self.listener.answered(self, status, head, body)
