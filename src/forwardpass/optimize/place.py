"""Where a parent lies, and where what is made of it goes: the next version beside it, or a folder of its own.

    <model>/<version>/ ─► <model>/<next>/        model/ or model.onnx ─► <model>-optimized/ beside it

Beside that lies ``<out>.optimize``, where a search keeps its ledger, its candidates and its reports. Loads nothing.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.registry import ModelFiles, ModelLocation, locate_models, read_model


@dataclass(frozen=True)
class Place:
    """``path`` is what ``load`` takes for the parent; ``out`` does not exist yet; ``work`` is the search's own."""

    files: ModelFiles
    path: Path
    out: Path
    work: Path

    @property
    def ledger(self) -> Path:
        return self.work / "ledger.jsonl"

    @property
    def candidates(self) -> Path:
        return self.work / "candidates"

    @property
    def reports(self) -> list[Path]:
        return [self.work / f"report.{end}" for end in ("html", "md", "json")]

    def publish(self, folder: Path) -> None:
        """Put a candidate's folder where ``out`` is: all of it, or nothing."""
        half = self.out.with_name(f".{self.out.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(folder, half, ignore=shutil.ignore_patterns("__pycache__"))  # of steps that were run
            half.rename(self.out)
        finally:
            shutil.rmtree(half, ignore_errors=True)


def find_place(model: Path, out: Path | None) -> Place:
    """The newest version under a path, and where its successor goes.

    Raises ``NotFound`` or ``InvalidModel`` for the model, ``InvalidInput`` where there is something at ``out``.
    """
    locations = locate_models(model)
    if len({location.name for location in locations}) > 1:
        names = ", ".join(sorted({location.name for location in locations}))
        raise InvalidModel(f"{model}: holds several models ({names}); give the path of one of them")
    location = locations[-1]
    out = Path(os.path.abspath(out or _beside(location)))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInput(f"{out}: there is something already; choose another folder with --out, or remove it")
    return Place(read_model(location), location.path, out, out.with_name(f"{out.name}.optimize"))


def _beside(location: ModelLocation) -> Path:
    path = Path(os.path.abspath(location.path))
    if path.is_dir() and path.name == location.version:
        taken = [int(item.version) for item in locate_models(path.parent) if item.version.isdecimal()]
        return path.with_name(str(max([int(location.version), *taken]) + 1))
    if path.is_file() and path.name.startswith("model."):
        path = path.parent
    return path.with_name(f"{location.name}-optimized")
