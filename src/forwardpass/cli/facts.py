"""Everything that is known of a model on disk, gathered by loading it as the server would.

In flows where a model lies, out flow plain facts for people and programs: what its artifact is,
what it takes and gives, what its pipeline does, its limits, and what is wrong with it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from forwardpass.artifacts import artifact_suffix
from forwardpass.backends import Backend, create_backend
from forwardpass.cli.artifact import read_onnx_header
from forwardpass.cli.yaml_lines import line_of
from forwardpass.config import MODEL_FILE, BackendConfig
from forwardpass.engine.engine import Engine
from forwardpass.errors import ForwardpassError, InvalidModel
from forwardpass.gateway.compose import check_composed
from forwardpass.registry import ModelFiles, ModelLocation, read_model
from forwardpass.types import InputSpec, TensorSpec

Facts = dict[str, Any]


def facts_of(location: ModelLocation) -> Facts:
    """One version's facts. Where it cannot be used, ``problem`` says why, and where; the rest is what is known."""
    facts: Facts = {"name": location.name, "version": location.version, "path": str(location.path)}
    backend: Backend | None = None
    try:
        composed = _composed(location)
        if composed is not None:
            check_composed(composed.name, composed.config)
            return facts | _composed_facts(composed)
        artifact, config = _artifact(location)
        if artifact is not None:
            facts["artifact"] = _artifact_facts(artifact)
            backend = create_backend(artifact, 1, config)
            facts["artifact"] |= _tensor_facts(backend)
        files = read_model(location)
        backend = backend or create_backend(files.artifact, 1, files.config.backend)
        facts |= _model_facts(files, backend)
    except ForwardpassError as error:
        facts["problem"] = _problem(location, error.message)
    finally:
        if backend is not None:
            backend.close()
    return facts


def _composed(location: ModelLocation) -> ModelFiles | None:
    """The files of a model that has no artifact; None where it has, or where they cannot be read."""
    try:
        files = read_model(location)
    except InvalidModel:
        return None
    return files if files.config.composed else None


def _composed_facts(files: ModelFiles) -> Facts:
    """What ``model.yaml`` says; what it takes and gives is known once its members, or its servers, were asked."""
    config, sample = files.config, files.sample()
    kind = "cascade" if config.cascade else "remote"
    return {
        "description": config.description,
        "composed": kind,
        "members": list(config.cascade),
        "escalation": asdict(config.escalation) if config.escalation else None,
        "remote": asdict(config.remote) if config.remote else None,
        "limits": asdict(config.limits),
        "sample": asdict(sample) if sample else None,
        "tags": config.tags,
    }


def _artifact(location: ModelLocation) -> tuple[Path | None, BackendConfig | None]:
    """The artifact and its backend, also where ``model.yaml`` cannot be read; None where it is not clear which."""
    if location.path.is_file():
        return location.path, None
    try:
        files = read_model(location)
        return files.artifact, files.config.backend
    except InvalidModel:
        found = [child for child in sorted(location.path.iterdir()) if artifact_suffix(child)]
        return (found[0] if len(found) == 1 else None), None


def _artifact_facts(artifact: Path) -> Facts:
    header = read_onnx_header(artifact) if artifact.suffix == ".onnx" else None
    return {"file": str(artifact), "bytes": artifact.stat().st_size, **(asdict(header) if header else {})}


def _tensor_facts(backend: Backend) -> Facts:
    return {
        "backend": backend.name,
        "inputs": [_tensor(spec) for spec in backend.inputs],
        "outputs": [_tensor(spec) for spec in backend.outputs],
    }


def _model_facts(files: ModelFiles, backend: Backend) -> Facts:
    engine = Engine(files, backend)
    config, info = files.config, engine.info
    return {
        "description": info.description,
        "batched": engine.signature.batched,
        "inputs": [_input(spec) for spec in engine.signature.inputs],
        "preprocess": list(info.preprocess),
        "postprocess": list(info.postprocess),
        "outputs": [_tensor(spec) for spec in engine.signature.outputs],
        "limits": asdict(config.limits),
        "replicas": config.replicas,
        "threads": config.threads,
        "sample": asdict(info.sample) if info.sample else None,
        "tags": info.tags,
    }


def _problem(location: ModelLocation, message: str) -> Facts:
    """What is wrong, with the file and line of ``model.yaml`` where the message leads there."""
    beside = location.path if location.path.is_dir() else location.path.parent
    for folder in (beside, beside.parent):
        file = folder / MODEL_FILE
        if file.is_file():
            line = line_of(file.read_text(encoding="utf-8", errors="replace"), message)
            return {"message": message, "file": str(file), "line": line}
    return {"message": message, "file": None, "line": None}


def _tensor(spec: TensorSpec) -> Facts:
    return {"name": spec.name, "datatype": str(spec.dtype), "shape": list(spec.shape)}


def _input(spec: InputSpec) -> Facts:
    facts = {
        "type": str(spec.type),
        "description": spec.description,
        "required": spec.required,
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "categories": list(spec.categories),
        "max_length": spec.max_length,
        "max_pixels": spec.max_pixels,
    }
    return {**_tensor(spec.tensor), **facts}
