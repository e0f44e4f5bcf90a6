"""What all calls of the gRPC door share: the models by name, and the way to the data plane."""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.grpc.call import Call
from forwardpass.server.grpc.generated.inference_pb2 import ModelInferRequest
from forwardpass.server.grpc.model import Model
from forwardpass.server.served import ServedModel, clock, newest

log = logging.getLogger(__name__)


class Door:
    """``models`` maps a name and a version (or the empty string) to what answers."""

    def __init__(self, dataplane: DataPlane) -> None:
        self.dataplane = dataplane
        self.models: dict[tuple[str, str], Model] = {}

    def rebuild(self) -> None:
        """Models have come, become ready or gone."""
        known = {model.served: model for model in self.models.values()}
        models: dict[tuple[str, str], Model] = {}
        for name in self.dataplane.models:
            ready = [served for served in self.dataplane.versions(name) if served.ready]
            for served in ready:
                models[name, served.version] = known.get(served) or Model(served)
            if ready:
                models[name, ""] = models[name, newest(ready).version]
        self.models = models

    def begin(self, call: Call, message: bytes, seconds: float | None) -> None:
        """Decode a request and queue it; ``seconds`` are left of its call, None where it may take its time.

        The call is answered later, or failed at once with what is wrong with it.
        """
        call.arrived = clock()
        call.bytes_in = len(message)
        try:
            request = ModelInferRequest.FromString(message)
            call.id = request.id
            model = self.models.get((request.model_name, request.model_version))
            call.model = model or Model(self._ready(request.model_name, request.model_version))
        except DecodeError:
            call.fail(InvalidInput("the message is not a ModelInferRequest of the Open Inference Protocol"))
        except ForwardpassError as error:
            call.fail(error)
        else:
            self._queue(call, request, seconds)

    def end(self, call: Call) -> None:
        """Its answer is handed over, or nobody waits for it."""
        if call.joined:
            call.model.company.left()

    def cancel(self, call: Call) -> None:
        """Nobody waits for its answer any more. One past its deadline ends so by itself, as timed out."""
        if call.done or not call.joined or clock() >= call.deadline:
            return
        scheduler = call.model.served.scheduler
        if scheduler is not None:
            scheduler.cancel(call)

    def _ready(self, name: str, version: str) -> ServedModel:
        served = self.dataplane.model(name, version or None)
        served.require_ready()
        return served

    def _infer(self, call: Call) -> None:
        try:
            self.dataplane.infer(call.model.served, call)
        except ForwardpassError as error:
            call.columns = {}
            call.fail(error)

    def _queue(self, call: Call, request: ModelInferRequest, seconds: float | None) -> None:
        served = call.model.served
        try:
            call.model.decode(call, request)
        except ForwardpassError as error:
            self.dataplane.refused(served, call, error)
            call.fail(error)
            return
        except Exception as error:  # the door: whatever a message holds, it is answered
            log.exception("a request could not be decoded", exc_info=error)
            failure = BackendFailed("the request could not be read; the server's log says why")
            self.dataplane.refused(served, call, failure)
            call.fail(failure)
            return
        if seconds is not None and call.arrived + seconds < call.deadline:
            call.deadline = call.arrived + seconds
        call.model.company.join(call, self._infer)
