"""One inference request over gRPC, alone in its call or one of many in a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from forwardpass.errors import ForwardpassError
from forwardpass.scheduler import Request
from forwardpass.server.grpc.generated.inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from forwardpass.types import Columns

if TYPE_CHECKING:
    from forwardpass.server.grpc.model import Model


class Call(Request):
    """Knows its model once it is decoded. ``raw``: the answer goes back as raw contents."""

    door = "grpc"
    rows = 0
    model: Model
    raw: bool = True
    outputs: list[str] | None = None  # None: all
    joined: bool = False  # to its model's company (company.py): decoded, and on its way to the queue


class UnaryCall(Call):
    """Answered through a future: the message's bytes, or the error that the call is to end with."""

    def __init__(self, future: asyncio.Future[bytes | ForwardpassError]) -> None:
        self.future = future

    def succeed(self, outputs: Columns) -> None:
        answer = self.model.encode(self, outputs).SerializeToString()
        self.bytes_out = len(answer)
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: ForwardpassError) -> None:
        if not self.future.done():
            self.future.set_result(error)


class StreamedCall(Call):
    """Answered into its stream; errors are answers too, and the stream goes on."""

    def __init__(self, answered: Callable[[StreamedCall, bytes], None]) -> None:
        self._answered = answered

    def succeed(self, outputs: Columns) -> None:
        self._answer(ModelStreamInferResponse(infer_response=self.model.encode(self, outputs)))

    def fail(self, error: ForwardpassError) -> None:
        response = ModelInferResponse(id=self.id)
        self._answer(ModelStreamInferResponse(error_message=error.message, infer_response=response))

    def _answer(self, response: ModelStreamInferResponse) -> None:
        answer = response.SerializeToString()
        self.bytes_out = len(answer)
        self._answered(self, answer)
