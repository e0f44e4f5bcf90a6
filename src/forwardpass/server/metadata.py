"""What the server says of its models: protocol metadata, configuration, the repository, and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from forwardpass import __version__
from forwardpass.registry import ModelLocation
from forwardpass.server.served import ServedModel, State
from forwardpass.server.tensors import show_shape
from forwardpass.types import InputSpec, TensorSpec

Json = dict[str, Any]
EXTENSIONS = ("model_repository", "statistics", "model_configuration")


def of_server(*extensions: str) -> Json:
    """Server metadata of the protocol; a door adds the extensions that only it has."""
    return {"name": "forwardpass", "version": __version__, "extensions": [*EXTENSIONS, *extensions]}


def of_model(served: ServedModel, versions: list[str]) -> Json:
    """Model metadata of the protocol. Shapes hold -1 for free axes."""
    served.require_ready()
    return {
        "name": served.name,
        "versions": versions,
        "platform": f"forwardpass_{served.info.backend}",
        "inputs": [_tensor(spec.tensor) for spec in served.signature.inputs],
        "outputs": [_tensor(spec) for spec in served.signature.outputs],
    }


def of_config(served: ServedModel) -> Json:
    """Model configuration, in the words that clients of the protocol's extension read."""
    served.require_ready()
    signature, limits = served.signature, served.limits
    most = limits.max_batch_size if signature.batched else 0
    skip = 1 if signature.batched else 0
    batching = {"dynamic_batching": {"max_queue_delay_microseconds": round(limits.max_delay * 1e6)}} if most else {}
    return {
        "name": served.name,
        "platform": f"forwardpass_{served.info.backend}",
        "backend": served.info.backend,
        "max_batch_size": most,
        "input": [_config_tensor(spec.tensor, skip) for spec in signature.inputs],
        "output": [_config_tensor(spec, skip) for spec in signature.outputs],
        "instance_group": [{"count": served.replicas.count if served.replicas else 0, "kind": "KIND_CPU"}],
        **batching,
        "parameters": {
            "max_queue_size": {"string_value": str(limits.max_queue_size)},
            "max_queue_bytes": {"string_value": str(limits.max_queue_bytes)},
            "timeout": {"string_value": str(limits.timeout)},
        },
    }


def of_repository(served: Iterable[ServedModel], locations: Iterable[ModelLocation], *, only_ready: bool) -> list[Json]:
    """The repository index: what is loaded, and what lies there and is not."""
    index: dict[tuple[str, str], Json] = {}
    for item in served:
        index[item.name, item.version] = _index_entry(item.name, item.version, item.state, item.reason)
    for location in locations:
        key = (location.name, location.version)
        index.setdefault(key, _index_entry(*key, State.UNAVAILABLE, "unloaded"))
    return [entry for entry in index.values() if entry["state"] == State.READY or not only_ready]


def for_people(served: ServedModel) -> Json:
    """A model for the page and the command line: what it is, what it wants, how it is."""
    return {
        "name": served.name,
        "version": served.version,
        "state": served.state,
        "reason": served.reason,
        "description": served.info.description,
        "backend": served.info.backend,
        "artifact": served.info.artifact,
        "preprocess": served.info.preprocess,
        "postprocess": served.info.postprocess,
        "tags": served.info.tags,
        "batched": served.signature.batched,
        "inputs": [_input(spec) for spec in served.signature.inputs],
        "outputs": [_tensor(spec) for spec in served.signature.outputs],
        "has_sample": served.info.sample is not None,
        "sample_type": served.info.sample.content_type if served.info.sample else None,
    }


def _input(spec: InputSpec) -> Json:
    return {
        **_tensor(spec.tensor),
        "type": spec.type,
        "description": spec.description,
        "required": spec.required,
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "allow_nan": spec.allow_nan,
        "categories": spec.categories,
        "max_length": spec.max_length,
        "max_pixels": spec.max_pixels,
    }


def _tensor(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.dtype, "shape": show_shape(spec.shape)}


def _config_tensor(spec: TensorSpec, skip: int) -> Json:
    kind = "TYPE_STRING" if spec.dtype == "BYTES" else f"TYPE_{spec.dtype}"
    return {"name": spec.name, "data_type": kind, "dims": show_shape(spec.shape[skip:])}


def _index_entry(name: str, version: str, state: State, reason: str) -> Json:
    return {"name": name, "version": version, "state": state, "reason": reason}
