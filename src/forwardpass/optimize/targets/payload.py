"""Which files of a model travel to another machine, and how they are called there.

    model/ ─► <name>/…      model/3/ (model.yaml in it, or above) ─► <name>/3/…      model.onnx ─► <name>/model.onnx

Names there are such that the model keeps its name and version. What lies beside ``model.yaml`` goes along, as it counts
for the model's digest; folders in it and hidden files do not. Opens no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from forwardpass.artifacts import artifact_files
from forwardpass.config import MODEL_FILE
from forwardpass.registry import ModelFiles, find_model


@dataclass(frozen=True)
class Payload:
    """``path`` is what ``load`` takes there; ``files`` are by their names there."""

    path: str
    files: dict[str, Path]


def pack(path: Path) -> Payload:
    """What must be there for the model under ``path`` to be loaded. Raises ``InvalidModel`` or ``NotFound``."""
    path = path.absolute()
    files = find_model(path)
    folder = files.folder.absolute()
    root = PurePosixPath(files.name)
    if folder.name == files.version:
        root /= files.version

    def there(file: Path) -> str:
        return str(root / file.relative_to(folder).as_posix())

    found = sorted(_files(path, files))
    return Payload(there(path) if path.is_relative_to(folder) else str(root), {there(file): file for file in found})


def _files(path: Path, files: ModelFiles) -> set[Path]:
    found = {file.absolute() for file in artifact_files(files.artifact)}
    if (files.folder / MODEL_FILE).is_file():
        found |= _inside(files.folder.absolute())
    if path.is_dir():
        found |= _inside(files.artifact.absolute().parent)
    return found


def _inside(folder: Path) -> set[Path]:
    return {file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")}
