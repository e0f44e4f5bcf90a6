"""JSON schemas of one model: what its V1 and V2 bodies look like, with its own names, types, ranges.

From the signature alone. A row of a batched model is one V1 instance; the shapes of V2 tensors
have their rows in front. Where a floating point value is NaN or infinite, an answer holds ``null``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec

Json = dict[str, Any]
SINGLE_VALUES = (InputType.NUMBER, InputType.CATEGORY, InputType.TEXT)


_NAMES: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
JOB: Json = {  # as `forwardpass run` takes it
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "version": {"type": ["string", "integer"]},
        "input": _NAMES | {"description": "files, folders or globs within the folder of jobs, or URLs"},
        "output": {"type": "string", "description": "a folder, or one file by its suffix"},
        "where": {"type": "string", "description": "which rows: amount > 100 and kind == 'a'"},
        "keep": _NAMES | {"description": "columns to write beside the outputs"},
        "map": {"type": "object", "additionalProperties": _NAMES, "description": "columns of an input"},
        "format": {"type": "string", "description": "of the input, where its suffix does not say"},
        "max_rejected": {"type": ["string", "integer"], "description": "rows, or a percentage such as 1%"},
        "batch_rows": {"type": "integer", "minimum": 1},
        "part_rows": {"type": "integer", "minimum": 1},
        "workers": {"type": "integer", "minimum": 1},
        "resume": {"type": "boolean", "description": "go on with what lies at the output"},
    },
    "required": ["model", "input", "output"],
    "additionalProperties": False,
}

_SENT: Json = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 128},
        "kind": {"enum": ["usage", "record", "sample", "escalation"]},
        "at": {"type": "number", "description": "seconds since the epoch, by the device's clock"},
        "up": {"type": ["number", "null"], "description": "seconds since the device's start"},
        "boot": {"type": ["string", "null"], "description": "which start that was"},
        "body": {"type": "object"},
    },
    "required": ["id", "kind", "at", "body"],
}
UPLOAD: Json = {  # what a device's outbox sends
    "type": "object",
    "properties": {
        "device": {"type": "string", "minLength": 1, "maxLength": 128},
        "at": {"type": ["number", "null"]},
        "up": {"type": ["number", "null"]},
        "boot": {"type": ["string", "null"]},
        "entries": {"type": "array", "items": _SENT, "maxItems": 10_000},
    },
    "required": ["device", "entries"],
    "additionalProperties": False,
}


def instances(signature: Signature) -> Json:
    """The body of a V1 request."""
    properties = {spec.name: _value(spec, signature.batched) for spec in signature.inputs}
    required = [spec.name for spec in signature.inputs if spec.required]
    row: Json = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if len(properties) == 1:
        row = {"anyOf": [next(iter(properties.values())), row]}
    rows: Json = {"type": "array", "items": row}
    if not signature.batched:
        rows |= {"minItems": 1, "maxItems": 1}
    return object_of({"instances": rows}, ["instances"])


def predictions(signature: Signature) -> Json:
    """The answer of a V1 request: a bare value per row where there is one output."""
    values = {spec.name: _nested(_answered(spec.dtype), _row(spec, signature.batched)) for spec in signature.outputs}
    row = next(iter(values.values())) if len(values) == 1 else object_of(values, list(values))
    return object_of({"predictions": {"type": "array", "items": row}}, ["predictions"])


def infer_request(signature: Signature) -> Json:
    """The JSON body, or JSON header, of a V2 request."""
    required = [spec.name for spec in signature.inputs if spec.required]
    tensors = [_tensor(spec.tensor, _element(spec), {"binary_data_size": {"type": "integer"}}, spec.description)
               for spec in signature.inputs]  # fmt: skip
    output = object_of(
        {
            "name": {"enum": [spec.name for spec in signature.outputs]},
            "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
        },
        ["name"],
    )
    timeout = {"type": "integer", "exclusiveMinimum": 0, "description": "microseconds"}
    parameters = {"timeout": timeout, "binary_data_output": {"type": "boolean"}}
    properties = {
        "id": {"type": "string"},
        "inputs": {
            "type": "array", "items": _any_of(tensors), "minItems": len(required), "maxItems": len(tensors)
        },
        "outputs": {"type": "array", "items": output, "description": "those wanted; all where it is left out"},
        "parameters": {"type": "object", "properties": parameters},
    }  # fmt: skip
    return object_of(properties, ["inputs"])


def infer_response(signature: Signature) -> Json:
    """The JSON body, or JSON header, of a V2 answer."""
    tensors = [
        _tensor(spec, _answered(spec.dtype), {"binary_data_size": {"type": "integer"}}) for spec in signature.outputs
    ]
    properties = {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _any_of(tensors)},
    }
    return object_of(properties, ["model_name", "model_version", "outputs"])


def raw_bodies(signature: Signature) -> dict[str, Json]:
    """Bodies besides JSON that V1 takes, by content type."""
    types = [spec.type for spec in signature.inputs]
    bodies: dict[str, Json] = {}
    if types == [InputType.IMAGE]:
        for kind in ("image/png", "image/jpeg", "image/*"):
            bodies[kind] = {"type": "string", "format": "binary"}
    if types == [InputType.TEXT]:
        bodies["text/plain"] = {"type": "string"}
    if signature.batched and types and (_is_vector(signature) or all(kind in SINGLE_VALUES for kind in types)):
        names = ",".join(spec.name for spec in signature.inputs)
        bodies["text/csv"] = {"type": "string", "description": f"a header line ({names}), then one line per row"}
    return bodies


def _is_vector(signature: Signature) -> bool:
    return len(signature.inputs) == 1 and len(signature.inputs[0].tensor.shape) == 2


def _row(spec: TensorSpec, batched: bool) -> tuple[int | None, ...]:
    return spec.shape[1:] if batched else spec.shape


def _value(spec: InputSpec, batched: bool) -> Json:
    """One input of a V1 instance."""
    element = _element(spec)
    if spec.type is InputType.IMAGE:
        encoded = object_of({"b64": {"type": "string", "contentEncoding": "base64"}}, ["b64"])
        element = {"anyOf": [encoded, element]}
    batched = batched or spec.type is not InputType.TENSOR
    schema = _nested(element, _row(spec.tensor, batched))
    if not spec.required:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return schema | ({"description": spec.description} if spec.description else {})


def _element(spec: InputSpec) -> Json:
    """A single value of an input, with what is allowed for it."""
    if spec.type is InputType.IMAGE:
        return {"type": "string", "contentEncoding": "base64", "description": "an image file"}
    element = _scalar(spec.tensor.dtype)
    limits = {
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "maxLength": spec.max_length,
        "enum": list(spec.categories) or None,
    }
    return element | {key: value for key, value in limits.items() if value is not None}


def _scalar(dtype: DType) -> Json:
    if dtype is DType.BYTES:
        return {"type": "string"}
    if dtype is DType.BOOL:
        return {"type": "boolean"}
    if dtype.is_float:
        return {"type": "number"}
    limits = np.iinfo(dtype.numpy)
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}


def _answered(dtype: DType) -> Json:
    return {"type": ["number", "null"]} if dtype.is_float else _scalar(dtype)


def _nested(element: Json, shape: tuple[int | None, ...]) -> Json:
    schema = element
    for size in reversed(shape):
        limits = {} if size is None else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **limits}
    return schema


def _tensor(spec: TensorSpec, element: Json, parameters: Json, description: str = "") -> Json:
    """A V2 tensor; ``data`` may also be nested, and is left out where raw bytes follow."""
    axes = [{"type": "integer", "minimum": 0} if size is None else {"const": size} for size in spec.shape]
    shape = {"type": "array", "minItems": len(axes), "maxItems": len(axes)} | ({"prefixItems": axes} if axes else {})
    properties = {
        "name": {"const": spec.name},
        "shape": shape,
        "datatype": {"const": str(spec.dtype)},
        "data": {"type": "array", "items": {"anyOf": [element, {"type": "array"}]}},
        "parameters": {"type": "object", "properties": parameters},
    }
    schema = object_of(properties, ["name", "shape", "datatype"])
    return schema | ({"description": description} if description else {})


def _any_of(schemas: Iterable[Json]) -> Json:
    listed = list(schemas)
    return listed[0] if len(listed) == 1 else {"anyOf": listed}


def object_of(properties: Json, required: list[str]) -> Json:
    return {"type": "object", "properties": properties, "required": required}
