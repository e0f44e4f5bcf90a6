"""The contract of a backend, and the table from a backend's name to its module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from forwardpass.artifacts import ARTIFACTS, artifact_suffix, hint_for
from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidModel, nearest
from forwardpass.types import Columns, TensorSpec

_ONNX = ("forwardpass.backends.onnx", "OnnxBackend")

# name -> (module, class, the extra that brings its library); a library is imported only when a model needs it
_BACKENDS = {
    "onnxruntime": (*_ONNX, ""),
    "onnxruntime-openvino": (*_ONNX, "openvino"),
    "onnxruntime-cuda": (*_ONNX, ""),
    "onnxruntime-tensorrt": (*_ONNX, ""),
    "openvino": ("forwardpass.backends.openvino", "OpenVinoBackend", "openvino"),
    "torch": ("forwardpass.backends.torch", "TorchBackend", "torch"),
    "sklearn": ("forwardpass.backends.sklearn", "SklearnBackend", "sklearn"),
    "xgboost": ("forwardpass.backends.xgboost", "XGBoostBackend", "xgboost"),
    "lightgbm": ("forwardpass.backends.lightgbm", "LightGBMBackend", "lightgbm"),
    "litert": ("forwardpass.backends.litert", "LiteRTBackend", "litert"),
}


class Backend(ABC):
    """One artifact, loaded.

    ``inputs`` and ``outputs`` give name, type and whole shape (``None`` for free axes).
    ``batched`` says whether the first axis of every tensor is rows, so that rows of different
    requests may be stacked. ``run`` takes exactly the declared inputs, with those types, and
    returns every declared output; it is synchronous, keeps no state between calls and raises
    ``InvalidInput`` where the shapes cannot be run, ``BackendFailed`` where the library fails.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool

    @abstractmethod
    def run(self, columns: Columns) -> Columns: ...

    @abstractmethod
    def close(self) -> None:
        """Free what the library holds. The backend cannot be used afterwards."""


def create_backend(artifact: Path, threads: int, config: BackendConfig | None = None) -> Backend:
    """Load an artifact with the backend that ``config`` or its name's end says, computing with ``threads`` threads.

    Raises ``InvalidModel`` where there is no such backend, its library is not installed or cannot load the file.
    """
    config = config or BackendConfig()
    suffix = artifact_suffix(artifact)
    name = config.name or (ARTIFACTS[suffix] if suffix else None)
    if name is None and (hint := hint_for(artifact)):
        raise InvalidModel(f"{artifact.name} is {hint}")
    if name is None:
        known = ", ".join(sorted(ARTIFACTS))
        raise InvalidModel(f"{artifact.name}: no backend runs {artifact.suffix!r} files. Known: {known}.")
    if name not in _BACKENDS:
        raise InvalidModel(f"{artifact.name}: there is no backend {name!r}.{nearest(name, _BACKENDS)}")
    module, cls, extra = _BACKENDS[name]
    try:
        backend: Backend = getattr(import_module(module), cls)(artifact, threads, replace(config, name=name))
    except ModuleNotFoundError as missing:
        how = f"pip install 'forwardpass[{extra}]'" if extra else f"install {missing.name}"
        raise InvalidModel(
            f"{artifact.name}: the backend {name!r} needs {missing.name}, which is not installed: {how}"
        ) from None
    return backend
