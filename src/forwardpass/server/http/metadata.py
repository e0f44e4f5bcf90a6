"""What the server says of its models: protocol metadata, configuration, statistics, and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from forwardpass.monitoring import ModelStats
from forwardpass.registry import ModelLocation
from forwardpass.server.http.v2 import show_shape
from forwardpass.server.served import ServedModel, State
from forwardpass.types import InputSpec, TensorSpec

Json = dict[str, Any]


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


def of_statistics(served: ServedModel, stats: ModelStats) -> Json:
    """Statistics of one version; durations are sums in nanoseconds."""
    good, bad = stats.count(ok=True), stats.count(ok=False)
    batches = sum(stats.batches.values())
    scheduler = served.scheduler
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": round(stats.last_at * 1000),
        "inference_count": stats.rows,
        "execution_count": batches,
        "inference_stats": {
            "success": _duration(good, stats.total.sum),
            "fail": _duration(bad, stats.failed_seconds),
            "queue": _duration(good, stats.queue.sum),
            "compute_input": _duration(batches, stats.preprocess.sum),
            "compute_infer": _duration(batches, stats.forward.sum),
            "compute_output": _duration(batches, stats.postprocess.sum),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [{"batch_size": size, "count": count} for size, count in sorted(stats.batches.items())],
        "batch_reasons": {} if scheduler is None else {str(k): n for k, n in scheduler.reasons.items()},
        "queue": {} if scheduler is None else {"rows": scheduler.queued_rows, "bytes": scheduler.queued_bytes},
        "replicas": {
            "ready": served.replicas.ready if served.replicas else 0,
            "wanted": served.replicas.count if served.replicas else 0,
            "restarts": served.replicas.restarts if served.replicas else 0,
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
        "categories": spec.categories,
        "max_length": spec.max_length,
        "max_pixels": spec.max_pixels,
    }


def _tensor(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.dtype, "shape": show_shape(spec.shape)}


def _config_tensor(spec: TensorSpec, skip: int) -> Json:
    kind = "TYPE_STRING" if spec.dtype == "BYTES" else f"TYPE_{spec.dtype}"
    return {"name": spec.name, "data_type": kind, "dims": show_shape(spec.shape[skip:])}


def _duration(count: int, seconds: float) -> Json:
    return {"count": count, "ns": round(seconds * 1e9)}


def _index_entry(name: str, version: str, state: State, reason: str) -> Json:
    return {"name": name, "version": version, "state": state, "reason": reason}
