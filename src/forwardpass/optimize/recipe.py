"""What a recipe is: it takes a model and writes another folder of it that may be faster.

    Parent (the model, calibration rows) ─► Recipe.make ─► a whole model folder ─► measured as any model is

A candidate is a model folder like any other: the same pipeline, another artifact, backend or precision.
Recipes know no measurements, no gate and no other recipe; whatever one raises, only its candidate is lost.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from forwardpass.artifacts import artifact_files
from forwardpass.config import MODEL_FILE, BackendConfig, read_yaml
from forwardpass.registry import ModelFiles
from forwardpass.types import Columns


@dataclass(frozen=True)
class Parent:
    """The model that candidates are made of.

    ``calibration`` are batches of what the artifact takes, after preprocessing; its rows are never
    held-out rows. ``source`` is the user's Python file with the PyTorch model and its training data,
    for recipes that train; None where there is none. ``cores`` and ``flags`` are of the processor that will run it,
    where that is not this machine's.
    """

    files: ModelFiles
    calibration: Sequence[Columns] = field(default=(), repr=False)
    source: Path | None = None
    cores: int | None = None
    flags: frozenset[str] | None = None


class Recipe(ABC):
    """One way to a faster model. ``name`` is part of file names; ``title`` is for people."""

    name: str
    title: str

    @abstractmethod
    def unsuitable(self, parent: Parent) -> str:
        """Why it cannot be tried on this model, in a few words; empty where it can. Quick: loads nothing heavy."""

    @abstractmethod
    def make(self, parent: Parent, folder: Path) -> None:
        """Write the candidate's model folder, which is there and empty. Raises whatever goes wrong."""


def write_model(
    parent: Parent, folder: Path, artifact: Path, backend: BackendConfig | None = None, threads: int | None = None
) -> None:
    """A copy of the parent's folder with this artifact in place of its own, and these lines in ``model.yaml``.

    ``artifact`` may lie in ``folder`` already; all files beside the parent's are copied but its artifact.
    """
    files = parent.files
    own = artifact_files(files.artifact)
    for child in files.folder.iterdir():
        if child.is_file() and child.name != MODEL_FILE and child not in own:
            shutil.copy2(child, folder / child.name)
    if artifact.parent != folder:
        for part in artifact_files(artifact):
            shutil.copy2(part, folder / part.name)
    yaml_file = files.folder / MODEL_FILE
    lines: dict[str, Any] = read_yaml(yaml_file) if yaml_file.is_file() else {}
    lines["artifact"] = artifact.name
    if backend is not None:
        lines["backend"] = {name: value for name, value in asdict(backend).items() if value is not None}
    if threads is not None:
        lines["threads"] = threads
    (folder / MODEL_FILE).write_text(yaml.safe_dump(lines, sort_keys=False, allow_unicode=True), encoding="utf-8")
