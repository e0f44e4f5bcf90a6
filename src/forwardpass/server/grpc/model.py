"""One version of a model as the protocol's messages ask it: requests in, responses out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwardpass.errors import InvalidInput
from forwardpass.server.grpc.call import Call
from forwardpass.server.grpc.company import Company
from forwardpass.server.grpc.generated.inference_pb2 import ModelInferRequest, ModelInferResponse
from forwardpass.server.grpc.tensors import FIELDS, array_from_contents, fill_contents
from forwardpass.server.inputs import (
    check_output,
    check_shape,
    complete,
    known_input,
    row_count,
    timeout_asked,
    unknown_input,
)
from forwardpass.server.served import ServedModel
from forwardpass.server.tensors import array_from_bytes, bytes_from_array
from forwardpass.types import Columns, DType


class Model:
    """What of a version is looked at for every request."""

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        signature = served.signature
        self._batched = signature.batched
        self._inputs = {spec.name: known_input(spec) for spec in signature.inputs}
        self._outputs = [spec.name for spec in signature.outputs]
        self.company = Company()
        self._ragged = any(None in spec.tensor.shape[1:] for spec in signature.inputs)

    def decode(self, call: Call, request: ModelInferRequest) -> None:
        """Set the call's columns, rows, deadline and what it asks for. Raises ``InvalidInput``."""
        call.deadline = call.arrived + self.served.limits.timeout
        columns = call.columns = self._columns(request)
        call.raw = len(request.raw_input_contents) > 0
        call.rows = row_count(columns) if self._batched else 1
        call.nbytes = call.bytes_in
        if self._ragged:
            call.key = tuple(columns[name].shape[1:] for name in self._inputs)
        if len(request.outputs) > 0:
            call.outputs = [output.name for output in request.outputs]
            for output in request.outputs:
                check_output(output.name, self._outputs, output.parameters)
        if len(request.parameters) > 0:
            said = parameters(request.parameters)
            call.deadline = call.arrived + timeout_asked(said, self.served.limits.timeout)
            call.raw = call.raw or said.get("binary_data_output") is True

    def _columns(self, request: ModelInferRequest) -> Columns:
        tensors, raws = request.inputs, request.raw_input_contents
        if len(raws) not in (0, len(tensors)):
            raise _wrong_contents(request)
        columns: Columns = {}
        for index, tensor in enumerate(tensors):
            name = tensor.name
            known = self._inputs.get(name)
            if known is None:
                raise unknown_input(name, self._inputs)
            shape = tuple(check_shape(known, tensor.datatype, list(tensor.shape)))
            if not raws:
                _check_memory(tensor)
                columns[name] = array_from_contents(name, known.spec.tensor.dtype, shape, tensor.contents)
            elif tensor.HasField("contents"):
                raise InvalidInput(f"input {name!r} has `contents`, and the request has `raw_input_contents`; send one")
            else:
                columns[name] = array_from_bytes(name, known.spec.tensor.dtype, shape, memoryview(raws[index]))
        if len(columns) != len(self._inputs) or len(tensors) != len(self._inputs):
            complete(self._inputs, columns, [tensor.name for tensor in tensors])
        return columns

    def encode(self, call: Call, outputs: Columns) -> ModelInferResponse:
        """The answer: raw where the request was, or where a type has no typed contents."""
        response = ModelInferResponse(model_name=self.served.name, model_version=self.served.version, id=call.id)
        chosen = [(name, outputs[name], DType.of(outputs[name])) for name in call.outputs or outputs]
        raw = call.raw or any(dtype not in FIELDS for _, _, dtype in chosen)
        for name, array, dtype in chosen:
            output = response.outputs.add(name=name, datatype=dtype, shape=array.shape)
            if raw:
                response.raw_output_contents.append(bytes_from_array(array))
            else:
                fill_contents(output.contents, dtype, array)
        return response


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of the parameters of a message; one without a value is None."""
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in given.items()}


def _check_memory(tensor: ModelInferRequest.InferInputTensor) -> None:
    if not tensor.HasField("contents") and "shared_memory_region" in tensor.parameters:
        raise InvalidInput(f"input {tensor.name!r}: shared memory is not offered; send contents or raw contents")


def _wrong_contents(request: ModelInferRequest) -> InvalidInput:
    for tensor in request.inputs:
        _check_memory(tensor)
    raws, inputs = len(request.raw_input_contents), len(request.inputs)
    return InvalidInput(f"`raw_input_contents` has {raws} entries for {inputs} inputs; send one for each, or none")
