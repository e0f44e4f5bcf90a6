"""Making a bundle: a model folder to one signed file that a device can check and run.

The files are laid out as the device will have them, the golden rows are answered from there, and only then is
the bundle written: what it lacks shows here and not on the device. The same model gives the same bytes, wherever
and whenever. Knows no command line and no place where keys are kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forwardpass import __version__
from forwardpass.backends import create_backend
from forwardpass.config import BackendConfig
from forwardpass.edge.archive import write_archive
from forwardpass.edge.bundle import BUNDLE_ENDING
from forwardpass.edge.contents import Contents, model_contents, model_runtime
from forwardpass.edge.golden import encode_golden
from forwardpass.edge.golden_rows import make_golden
from forwardpass.edge.manifest import (
    GOLDEN_FOLDER,
    MANIFEST_FILE,
    MODELS_FOLDER,
    SIGNATURE_FILE,
    FileEntry,
    Manifest,
    encode_manifest,
)
from forwardpass.edge.targets import DEFAULT, Target, find_target, require_runnable
from forwardpass.engine.engine import Engine
from forwardpass.errors import InvalidModel, InvalidSettings, NotFound
from forwardpass.registry import ModelFiles, ModelLocation, locate_models, read_model

if TYPE_CHECKING:
    from forwardpass.edge.signing import PrivateKey

_ELSEWHERE = ("onnxruntime-cuda", "onnxruntime-tensorrt")  # backends that the machine of the maker need not have


@dataclass(frozen=True)
class Built:
    """``path`` is the bundle, ``golden`` how many golden rows it has."""

    path: Path
    manifest: Manifest
    golden: int


def build(
    model: Path,
    key: PrivateKey,
    output: Path | None = None,
    *,
    version: str | None = None,
    target: str = DEFAULT,
    rows: Sequence[Any] = (),
) -> Built:
    """Write the bundle of a model, its newest version unless another is asked for.

    ``output`` is the file, or the folder for ``NAME-VERSION.bundle``; by default this folder. ``rows`` are V1
    instances for the golden rows. Raises ``NotFound``, ``InvalidModel`` where the model does not fit the target,
    ``InvalidInput`` for rows that it does not take, ``InvalidSettings`` where the bundle cannot be written.
    """
    location = find_location(model, version)
    models = collect_models(location)
    device = find_target(target)
    for files in models.values():
        if not files.config.composed:
            require_runnable(files.name, files.backend(), device)
    path = _output(output or Path(), location)
    with _staging(path) as folder:
        _lay_out(models, Path(folder))
        golden = _add_golden(models, Path(folder), rows)
        manifest = _describe(models, location, device, golden, Path(folder))
        _write(path, manifest, key, Path(folder))
    return Built(path, manifest, sum(golden.values()))


def find_location(path: Path, version: str | None) -> ModelLocation:
    """The one model under a path. Raises ``NotFound``, and ``InvalidModel`` where there are several."""
    locations = locate_models(path)
    if len(names := sorted({location.name for location in locations})) > 1:
        raise InvalidModel(f"{path}: holds several models ({', '.join(names)}); give the path of one of them")
    if version is None:
        return locations[-1]
    for location in locations:
        if location.version == version:
            return location
    raise NotFound(
        f"{path}: there is no version {version!r}; there are {', '.join(item.version for item in locations)}"
    )


def collect_models(location: ModelLocation) -> dict[str, ModelFiles]:
    """The model and those that it is made of, which lie in the folder above it; without what was measured here."""
    found: dict[str, ModelFiles] = {}
    waiting = [location]
    while waiting:
        place = waiting.pop(0)
        files = read_model(place).as_written()
        found[place.name] = files
        folder = place.path.parent if place.path.name == place.version else place.path
        for name in files.config.cascade:
            if name not in found:
                waiting.append(_member(folder.parent, name, place.name))
    return found


def _member(repository: Path, name: str, cascade: str) -> ModelLocation:
    if not (repository / name).is_dir():
        raise InvalidModel(f"{cascade}: cascade: there is no model {name!r} in {repository}, the folder above it")
    return find_location(repository / name, None)


def _output(output: Path, location: ModelLocation) -> Path:
    return output / f"{location.name}-{location.version}{BUNDLE_ENDING}" if output.is_dir() else output


def _staging(path: Path) -> tempfile.TemporaryDirectory[str]:
    """Beside the bundle: there must be room for it, and it can be renamed from there."""
    try:
        return tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    except OSError as reason:
        raise InvalidSettings(f"{path}: cannot be written: {reason.strerror}") from None


def _folder(files: ModelFiles) -> str:
    return f"{MODELS_FOLDER}/{files.name}/{files.version}"


def _lay_out(models: Mapping[str, ModelFiles], folder: Path) -> None:
    for files in models.values():
        contents: Contents = model_contents(files)
        for name, content in contents.items():
            path = folder / _folder(files) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, path)
            else:
                path.write_bytes(content)


def _add_golden(models: Mapping[str, ModelFiles], folder: Path, rows: Sequence[Any]) -> dict[str, int]:
    """Write the golden rows of every model that runs on the device; gives how many by their path.

    ``rows`` are for the model itself or, where it is made of others, for all of them: they take what it takes.
    """
    counts: dict[str, int] = {}
    for name, files in models.items():
        if files.config.composed:
            continue
        engine = _open(files, folder)
        try:
            golden = make_golden(engine, rows)
        finally:
            engine.close()
        path = f"{GOLDEN_FOLDER}/{name}.json"
        (folder / GOLDEN_FOLDER).mkdir(exist_ok=True)
        (folder / path).write_bytes(encode_golden(golden))
        counts[path] = len(golden.instances)
    return counts


def _open(files: ModelFiles, folder: Path) -> Engine:
    """The engine of what goes into the bundle. What needs the device's GPU is computed by ONNX Runtime's CPU here."""
    place = folder / _folder(files)
    laid_out = read_model(ModelLocation(files.name, files.version, place))
    if laid_out.backend().name not in _ELSEWHERE:
        return Engine.open(laid_out, threads=1)
    return Engine(laid_out, create_backend(laid_out.artifact, 1, BackendConfig(name="onnxruntime")))


def _describe(
    models: Mapping[str, ModelFiles], location: ModelLocation, target: Target, golden: Mapping[str, int], folder: Path
) -> Manifest:
    runtime: dict[str, str] = {}
    for files in models.values():
        runtime |= model_runtime(files)
    compiled = "__pycache__"  # of steps that the golden rows ran
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and compiled not in path.parts)
    return Manifest(
        name=location.name,
        version=location.version,
        target=target.name,
        model=location.name,
        runtime=runtime,
        files={path.relative_to(folder).as_posix(): _entry(path) for path in paths},
        golden=next(iter(golden), ""),  # of the model, or of the first that it asks
        created_by=f"forwardpass {__version__}",
    )


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _write(path: Path, manifest: Manifest, key: PrivateKey, folder: Path) -> None:
    """All or nothing: written under another name, put onto the disk, renamed."""
    from forwardpass.edge.signing import sign

    data = encode_manifest(manifest)
    head = [(MANIFEST_FILE, data), (SIGNATURE_FILE, sign(data, key))]
    contents = [(name, folder / name) for name in sorted(manifest.files)]
    half = folder / "half"
    try:
        with half.open("xb") as file:
            write_archive(file, [*head, *contents])
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as reason:
        raise InvalidSettings(f"{path}: cannot be written: {reason.strerror}") from None
