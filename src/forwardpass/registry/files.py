"""Finding models in the file system: an artifact, a model folder, or a repository of them.

    <repository>/<model>/[<version>/]model.<ext>

A version folder is named by a whole number; a model without version folders has version 1. Reads
``model.yaml``, which may lie beside the artifact or, for all versions, in the folder above them;
loads no artifact.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from forwardpass.artifacts import ARTIFACTS, artifact_suffix, hint_for
from forwardpass.config import MODEL_FILE, BackendConfig, ModelConfig, read_model_config
from forwardpass.errors import InvalidModel, NotFound
from forwardpass.registry.tuned import Tuned, find_tuned
from forwardpass.types import Sample

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"0|[1-9][0-9]*")
_SAMPLES = {
    "sample.json": "application/json",
    "sample.png": "image/png",
    "sample.jpg": "image/jpeg",
    "sample.txt": "text/plain",
    "sample.csv": "text/csv",
}


@dataclass(frozen=True)
class ModelLocation:
    """Where one version of a model lies: ``path`` is its folder, or the artifact itself."""

    name: str
    version: str
    path: Path


@dataclass(frozen=True)
class ModelFiles:
    """One version's files, with ``model.yaml`` read; ``folder`` is where that and its resources lie.

    Where ``config.composed`` says that there is no artifact, ``model.yaml`` stands in its place.
    """

    name: str
    version: str
    folder: Path
    artifact: Path
    config: ModelConfig
    tuned: Tuned | None = None  # what of the configuration was measured on this machine

    def as_written(self) -> ModelFiles:
        """The same without what was measured."""
        return replace(self, config=read_model_config(self.folder), tuned=None)

    def backend(self) -> BackendConfig:
        """The backend that runs the artifact, by its name also where ``model.yaml`` names none."""
        if self.config.composed:
            raise InvalidModel(f"model {self.name!r} has no artifact of its own, so no backend runs it")
        name = self.config.backend.name or ARTIFACTS[artifact_suffix(self.artifact) or ""]
        return replace(self.config.backend, name=name)

    def sample(self) -> Sample | None:
        """The request kept beside the artifact (``sample.json``, ``.png``, ``.txt`` …), if any.

        For a version folder it may also lie in the model's folder above. Its ``file`` is a path.
        """
        beside = self.artifact.parent
        if len(_artifacts(beside)) > 1 and not (self.folder / MODEL_FILE).is_file():
            return None  # a folder of several bare models: nobody knows whose it is
        above = [beside.parent] if _is_version_of(beside, self.name) else []
        for folder in (beside, self.folder, *above):
            for name, content_type in _SAMPLES.items():
                if (folder / name).is_file():
                    return Sample(str(folder / name), content_type)
        return None


def locate_models(path: Path) -> list[ModelLocation]:
    """Every version of every model under a path, by name and then by number of version.

    Only looks where files lie: a model that cannot be read is listed as well. Raises ``NotFound``
    where there is none.
    """
    if path.is_file():
        return [_locate_artifact(path)]
    if not path.is_dir():
        raise NotFound(f"{path}: there is no such file or folder")
    models = [child for child in _children(path) if _is_artifact(child) or _holds_model(child) or _versions(child)]
    if (path / MODEL_FILE).is_file() or _versions(path) or (len(models) == 1 and models[0].is_file()):
        return _locate_versions(path)
    found = [location for model in models for location in _locate_child(model)]
    if not found:
        known = ", ".join(ARTIFACTS)
        raise NotFound(f"{path}: there is no model in this folder; a model is a file ({known}) or a folder with one")
    return sorted(found, key=lambda location: (location.name, int(location.version)))


def read_model(location: ModelLocation) -> ModelFiles:
    """The files of one version. Raises ``InvalidModel`` where they cannot be used."""
    path = location.path
    if not _NAME.fullmatch(location.name):
        raise InvalidModel(
            f"{path}: {location.name!r} cannot be a model's name; "
            "use letters, digits, '.', '_' and '-', with a letter or digit first"
        )
    beside = path if path.is_dir() else path.parent
    shared = _is_version_of(beside, location.name) and not (beside / MODEL_FILE).is_file()
    folder = beside.parent if shared and (beside.parent / MODEL_FILE).is_file() else beside
    config = read_model_config(folder)
    if config.composed and path.is_dir():
        return ModelFiles(location.name, location.version, folder, folder / MODEL_FILE, config)
    artifact = _choose_artifact(path, config.artifact) if path.is_dir() else path
    tuned = find_tuned(artifact) if artifact.is_file() else None
    if tuned is not None:
        config = tuned.apply(config)
    return ModelFiles(location.name, location.version, folder, artifact, config, tuned)


def find_model(path: Path) -> ModelFiles:
    """The one model under a path, newest version. Raises ``NotFound`` or ``InvalidModel``."""
    locations = locate_models(path)
    names = sorted({location.name for location in locations})
    if len(names) > 1:
        raise InvalidModel(f"{path}: holds several models ({', '.join(names)}); give the path of one of them")
    return read_model(locations[-1])


def _choose_artifact(folder: Path, named: str | None) -> Path:
    if named is None:
        found = _artifacts(folder)
        if len(found) == 1:
            return found[0]
        if not found:
            hints = [f"; {child.name} is {hint}" for child in _children(folder) if (hint := hint_for(child))]
            raise InvalidModel(f"{folder}: there is no artifact in it ({', '.join(ARTIFACTS)}){''.join(hints[:1])}")
        names = ", ".join(item.name for item in found)
        raise InvalidModel(f"{folder}: holds several artifacts ({names}); name one in {MODEL_FILE}: `artifact: …`")
    inside = Path(os.path.normpath(named))
    if inside.is_absolute() or inside.parts[:1] == ("..",):
        raise InvalidModel(f"{folder}: the artifact that {MODEL_FILE} names, {named!r}, lies outside this folder")
    if not (folder / inside).is_file():
        raise InvalidModel(f"{folder}: the artifact that {MODEL_FILE} names, {named!r}, is not there")
    return folder / inside


def _locate_artifact(path: Path) -> ModelLocation:
    """A bare artifact is named by its stem; one called ``model`` by the folder that it lies in."""
    if not _is_artifact(path):
        if hint := hint_for(path):
            raise NotFound(f"{path} is {hint}")
        known = ", ".join(ARTIFACTS)
        raise NotFound(f"{path}: is not an artifact ({known}); give an artifact or the folder that holds it")
    stem = path.name.removesuffix(artifact_suffix(path) or "")
    if stem != "model":
        return ModelLocation(stem, "1", path)
    name = _name(path.parent)
    if _VERSION.fullmatch(name):
        return ModelLocation(_name(path.parent / ".."), name, path)
    return ModelLocation(name, "1", path)


def _locate_child(path: Path) -> list[ModelLocation]:
    return [_locate_artifact(path)] if path.is_file() else _locate_versions(path)


def _locate_versions(folder: Path) -> list[ModelLocation]:
    name = _name(folder)
    if _VERSION.fullmatch(name):
        return [ModelLocation(_name(folder / ".."), name, folder)]
    versions = sorted(_versions(folder), key=lambda version: int(version.name))
    return [ModelLocation(name, item.name, item) for item in versions] or [ModelLocation(name, "1", folder)]


def _versions(folder: Path) -> list[Path]:
    return [child for child in _children(folder) if _VERSION.fullmatch(child.name) and _holds_model(child)]


def _holds_model(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MODEL_FILE).is_file() or bool(_artifacts(folder)))


def _artifacts(folder: Path) -> list[Path]:
    return [child for child in _children(folder) if _is_artifact(child)]


def _is_artifact(path: Path) -> bool:
    return artifact_suffix(path) is not None and path.is_file()


def _is_version_of(folder: Path, name: str) -> bool:
    return _VERSION.fullmatch(_name(folder)) is not None and _name(folder / "..") == name


def _children(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what is hidden or cannot be listed."""
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError:
        return []


def _name(folder: Path) -> str:
    """The name under which the folder was given, through links, ``.`` and ``..``."""
    return os.path.basename(os.path.abspath(folder))
