"""What a version is made of, as digests: so that a change of any of it can be told, and named."""

from __future__ import annotations

import hashlib
from pathlib import Path

from forwardpass.config import MODEL_FILE
from forwardpass.registry.files import ModelFiles

_FOR_PEOPLE = ("README", "sample.", "LICENSE")  # files that no answer depends on, by how their names begin


def digest_files(files: ModelFiles) -> dict[str, str]:
    """SHA-256 of the artifact and of every file that its pipeline may read, by name within the model's folder.

    All files beside ``model.yaml`` count (labels, tokenizers, ``steps.py``), of a bare artifact itself alone.
    So does the backend that was found best on this machine: it rounds in its own way.
    """
    paths = {files.artifact}
    if (files.folder / MODEL_FILE).is_file():
        paths |= {path for path in files.folder.iterdir() if path.is_file() and _counts(path.name)}
    digests = {_name(path, files.folder): _digest(path) for path in sorted(paths)}
    if files.tuned is not None:
        digests["backend, as tuned"] = str(files.config.backend)
    return digests


def _counts(name: str) -> bool:
    return not name.startswith((".", *_FOR_PEOPLE))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
