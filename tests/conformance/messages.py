"""The protocol's gRPC messages, from a table of fields, in a descriptor pool of their own.

Every client library registers the package ``inference`` in protobuf's one default pool, and no two
can share a process; these get along with each. Written from the protocol's text.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message: {field: (number, type)}; `*` repeats, a capital letter names a message, `{}` maps text to it
FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "InferParameter": {"bool_param": (1, "bool"), "int64_param": (2, "int64"), "string_param": (3, "string")},
    "Contents": {
        "bool_contents": (1, "*bool"),
        "int_contents": (2, "*int32"),
        "int64_contents": (3, "*int64"),
        "uint_contents": (4, "*uint32"),
        "uint64_contents": (5, "*uint64"),
        "fp32_contents": (6, "*float"),
        "fp64_contents": (7, "*double"),
        "bytes_contents": (8, "*bytes"),
    },
    "Tensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "*int64"),
        "parameters": (4, "{}InferParameter"),
        "contents": (5, "Contents"),
    },
    "RequestedOutput": {"name": (1, "string"), "parameters": (2, "{}InferParameter")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "{}InferParameter"),
        "inputs": (5, "*Tensor"),
        "outputs": (6, "*RequestedOutput"),
        "raw_input_contents": (7, "*bytes"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "{}InferParameter"),
        "outputs": (5, "*Tensor"),
        "raw_output_contents": (6, "*bytes"),
    },
    "ModelStreamInferResponse": {"error_message": (1, "string"), "infer_response": (2, "ModelInferResponse")},
    "Empty": {},
    "Named": {"name": (1, "string"), "version": (2, "string")},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "*string")},
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "*int64")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "*string"),
        "platform": (3, "string"),
        "inputs": (4, "*TensorMetadata"),
        "outputs": (5, "*TensorMetadata"),
    },
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "ModelIndex": {"name": (1, "string"), "version": (2, "string"), "state": (3, "string"), "reason": (4, "string")},
    "RepositoryIndexResponse": {"models": (1, "*ModelIndex")},
    "RepositoryModelRequest": {"repository_name": (1, "string"), "model_name": (2, "string")},
    "Duration": {"count": (1, "uint64"), "ns": (2, "uint64")},
    "InferStatistics": {"success": (1, "Duration"), "fail": (2, "Duration"), "queue": (3, "Duration")},
    "ModelStatistics": {
        "name": (1, "string"),
        "version": (2, "string"),
        "last_inference": (3, "uint64"),
        "inference_count": (4, "uint64"),
        "execution_count": (5, "uint64"),
        "inference_stats": (6, "InferStatistics"),
    },
    "ModelStatisticsResponse": {"model_stats": (1, "*ModelStatistics")},
    "ModelConfig": {"name": (1, "string"), "platform": (2, "string"), "max_batch_size": (4, "int32")},
    "ModelConfigResponse": {"config": (1, "ModelConfig")},
}
METHODS = {
    "ServerLive": ("Empty", "ServerLiveResponse"),
    "ServerReady": ("Empty", "ReadyResponse"),
    "ModelReady": ("Named", "ReadyResponse"),
    "ServerMetadata": ("Empty", "ServerMetadataResponse"),
    "ModelMetadata": ("Named", "ModelMetadataResponse"),
    "ModelInfer": ("ModelInferRequest", "ModelInferResponse"),
    "ModelStreamInfer": ("ModelInferRequest", "ModelStreamInferResponse"),
    "ModelConfig": ("Named", "ModelConfigResponse"),
    "ModelStatistics": ("Named", "ModelStatisticsResponse"),
    "RepositoryIndex": ("RepositoryIndexRequest", "RepositoryIndexResponse"),
    "RepositoryModelLoad": ("RepositoryModelRequest", "Empty"),
    "RepositoryModelUnload": ("RepositoryModelRequest", "Empty"),
}
_Field = descriptor_pb2.FieldDescriptorProto


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind.startswith(("*", "{}")):
        field.label = _Field.LABEL_REPEATED
    if kind.startswith("{}"):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "string")
        _add(entry, "value", 2, kind[2:])
        kind = f"{message.name}.{entry.name}"
    kind = kind.removeprefix("*")
    if kind[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".inference.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="conformance.proto", package="inference", syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind)
    parameter = file.message_type[0]  # one of its values is set; as fields of a oneof, also where it is false
    parameter.oneof_decl.add(name="parameter_choice")
    for choice in parameter.field:
        choice.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()


def kind(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


def message(name: str, /, **fields: Any) -> Any:
    return kind(name)(**fields)
