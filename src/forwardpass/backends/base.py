"""The contract of a backend, and the table from an artifact's suffix to the backend that runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from forwardpass.errors import InvalidModel
from forwardpass.types import Columns, TensorSpec

# suffix -> (module, class); a library is imported only when an artifact needs it
_BACKENDS = {".onnx": ("forwardpass.backends.onnx", "OnnxBackend")}


class Backend(ABC):
    """One artifact, loaded.

    ``inputs`` and ``outputs`` give name, type and whole shape (``None`` for free axes).
    ``batched`` says whether the first axis of every tensor is rows, so that rows of different
    requests may be stacked. ``run`` takes exactly the declared inputs, with those types, and
    returns every declared output; it is synchronous, keeps no state between calls and raises
    ``InvalidInput`` where the shapes cannot be run, ``BackendFailed`` where the library fails.
    """

    name: ClassVar[str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool

    @abstractmethod
    def run(self, columns: Columns) -> Columns: ...

    @abstractmethod
    def close(self) -> None:
        """Free what the library holds. The backend cannot be used afterwards."""


def is_artifact(path: Path) -> bool:
    return path.suffix in _BACKENDS


def create_backend(artifact: Path, threads: int) -> Backend:
    """Load an artifact with the backend of its suffix, computing with ``threads`` threads.

    Raises ``InvalidModel`` where the suffix is unknown or the library cannot load the file.
    """
    if artifact.suffix not in _BACKENDS:
        known = ", ".join(sorted(_BACKENDS))
        raise InvalidModel(f"{artifact.name}: no backend runs {artifact.suffix!r} files. Known: {known}.")
    module, cls = _BACKENDS[artifact.suffix]
    backend: Backend = getattr(import_module(module), cls)(artifact, threads)
    return backend
