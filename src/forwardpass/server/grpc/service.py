"""The methods of ``inference.GRPCInferenceService``, over a data plane, its control plane and its statistics."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import ParseDict

from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, NotFound, NotReady
from forwardpass.server import metadata
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.grpc.call import UnaryCall
from forwardpass.server.grpc.door import Door
from forwardpass.server.grpc.generated import inference_pb2 as pb
from forwardpass.server.grpc.status import abort
from forwardpass.server.grpc.stream import Stream
from forwardpass.server.served import ServedModel
from forwardpass.server.statistics import Statistics

NAME = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
Answer = Callable[[Any], Awaitable[Any]]
M = TypeVar("M")
log = logging.getLogger(__name__)


class InferenceService:
    """Every method but the two for inference takes and gives messages; those two work on bytes."""

    def __init__(self, dataplane: DataPlane, control: Control, statistics: Statistics) -> None:
        self.door = Door(dataplane)
        self._dataplane = dataplane
        self._control = control
        self._statistics = statistics
        self._streams: set[Stream] = set()

    def handlers(self) -> dict[str, Any]:
        """The table that the library serves from. Bytes in and out where no class is named."""
        plain: tuple[Answer, ...] = (
            self.server_live, self.server_ready, self.model_ready, self.server_metadata, self.model_metadata,
            self.model_config, self.model_statistics, self.repository_index, self.repository_model_load,
            self.repository_model_unload,
        )  # fmt: skip
        return {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.model_infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.model_stream_infer),
            **dict(map(_plain_method, plain)),
        }

    def stop_streams(self) -> None:
        """Read no more requests from streams; what was read is answered, then they end."""
        for stream in self._streams:
            stream.stop()

    # Inference

    async def model_infer(self, message: bytes, context: Any) -> bytes:
        future: asyncio.Future[bytes | ForwardpassError] = asyncio.get_running_loop().create_future()
        call = UnaryCall(future)
        self.door.begin(call, message, context.time_remaining())
        try:
            answer = await future
        except asyncio.CancelledError:
            self.door.cancel(call)
            raise
        finally:
            self.door.end(call)
        if isinstance(answer, ForwardpassError):
            await abort(context, answer)
        return answer

    async def model_stream_infer(self, messages: AsyncIterator[bytes], context: Any) -> None:
        stream = Stream(self.door, context)
        self._streams.add(stream)
        try:
            await stream.run(messages)
        finally:
            self._streams.discard(stream)

    # Health and metadata

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=_holds(self._dataplane.require_ready))

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=_holds(lambda: self._served(request).require_ready()))

    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**metadata.of_server())

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        served = self._served(request)
        versions = [item.version for item in self._dataplane.versions(served.name)]
        return _message(pb.ModelMetadataResponse, metadata.of_model(served, versions))

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        return _message(pb.ModelConfigResponse, {"config": metadata.of_config(self._served(request))})

    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        if not request.name:
            chosen = self._dataplane.all()
        elif request.version:
            chosen = [self._served(request)]
        else:
            self._served(request)
            chosen = self._dataplane.versions(request.name)
        facts = await self._statistics.of(chosen)
        return _message(pb.ModelStatisticsResponse, {"model_stats": [_counted(item) for item in facts]})

    # The repository

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        locations = self._control.locations()
        index = metadata.of_repository(self._dataplane.all(), locations, only_ready=request.ready)
        return _message(pb.RepositoryIndexResponse, {"models": index})

    async def repository_model_load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        self._control.require_allowed()
        name = _named(request)
        await self._control.load(name, request.parameters)
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        self._control.require_allowed()
        name = _named(request)
        await self._control.unload(name)
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    def _served(self, request: Any) -> ServedModel:
        return self._dataplane.model(request.name, request.version or None)


def _counted(facts: dict[str, Any]) -> dict[str, Any]:
    """As over HTTP, but for how often each batch size ran: the message counts its forward passes."""
    sizes = [
        {"batch_size": item["batch_size"], "compute_infer": {"count": item["count"]}} for item in facts["batch_stats"]
    ]
    return {**facts, "batch_stats": sizes}


def _plain_method(answer: Answer) -> tuple[str, Any]:
    """A method's name and handler; its function is named like it."""
    name = "".join(part.capitalize() for part in answer.__name__.split("_"))
    parse, write = getattr(pb, f"{name}Request").FromString, getattr(pb, f"{name}Response").SerializeToString
    return name, grpc.unary_unary_rpc_method_handler(functools.partial(_answer, answer), parse, write)


async def _answer(answer: Answer, request: Any, context: Any) -> Any:
    try:
        return await answer(request)
    except ForwardpassError as error:
        return await abort(context, error)
    except Exception:  # the door: whatever fails, the call is answered
        log.exception("a call failed")
        return await abort(context, BackendFailed("the server failed; its log says why"))


def _holds(check: Callable[[], object]) -> bool:
    try:
        check()
    except (NotFound, NotReady):
        return False
    return True


def _named(request: Any) -> str:
    name: str = request.model_name or request.repository_name
    if not name:
        raise InvalidInput("`model_name` is empty; give the name of a model")
    return name


def _message(kind: type[M], content: dict[str, Any]) -> M:
    """A message of the plain dictionary; what HTTP has and the message has not is left out."""
    message = kind()
    ParseDict(content, message, ignore_unknown_fields=True)
    return message
