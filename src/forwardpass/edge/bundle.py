"""A bundle on the device: its signature and every byte checked, unpacked into a folder, opened.

The signature is checked before anything else is believed; then each file against the digest that was signed. An
error names the file that is wrong. Knows no slots and no updates; making bundles is in ``build.py``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from forwardpass.edge.archive import ArchiveReader, Write, archived_size, directory_size
from forwardpass.edge.golden import Golden, decode_golden, read_golden
from forwardpass.edge.manifest import (
    GOLDEN_FOLDER,
    MANIFEST_FILE,
    MODELS_FOLDER,
    SIGNATURE_FILE,
    Manifest,
    decode_manifest,
    read_manifest_file,
)
from forwardpass.errors import ForwardpassError, InvalidModel, InvalidSettings, NotFound

if TYPE_CHECKING:
    from forwardpass.edge.signing import Keys
    from forwardpass.engine.engine import Engine

BUNDLE_ENDING = ".bundle"
MOST_MANIFEST = 4 * 1024 * 1024
MOST_SIGNATURE = 4 * 1024
MOST_GOLDEN = 64 * 1024 * 1024  # bytes of one file, to look into


@dataclass(frozen=True)
class Examination:
    """A bundle that is whole. ``digest`` is the SHA-256 of its manifest's bytes, and so of all that is in it.

    ``trusted``: the key that signed it is among those handed in. ``golden`` says how many golden rows each model has.
    """

    manifest: Manifest
    digest: str
    key_id: str
    trusted: bool
    golden: dict[str, int]


@dataclass(frozen=True)
class _Seal:
    """The first two entries as they stand in the bundle, and who signed."""

    manifest: bytes
    signature: bytes
    key_id: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()


def read_manifest(path: Path, keys: Keys) -> tuple[Manifest, str]:
    """The manifest of a bundle that one of ``keys`` signed and that has its full size; the files are not read.

    With it the SHA-256 of its bytes, in which there may be more than this version of Forwardpass knows of. Raises
    ``NotFound``, or ``InvalidModel`` saying what is wrong with it.
    """
    with _opened(path, keys) as (_, manifest, seal):
        return manifest, seal.digest


def verify(path: Path, keys: Keys) -> Manifest:
    """The manifest of a bundle that one of ``keys`` signed, every byte of it checked. Raises as ``read_manifest``."""
    with _opened(path, keys) as (archive, manifest, _):
        _check_all(archive, manifest)
        return manifest


def examine(path: Path, keys: Keys) -> Examination:
    """A bundle with every byte checked, whoever signed it: to look at, not to run. Raises as ``read_manifest``."""
    with _opened(path, None) as (archive, manifest, seal):
        golden = {path: bytearray() for path in golden_paths(manifest) if manifest.files[path].size <= MOST_GOLDEN}
        _check_all(archive, manifest, golden)
        read = [decode_golden(bytes(content), path) for path, content in golden.items()]
        rows = {item.model: len(item.instances) for item in read}
        return Examination(manifest, seal.digest, seal.key_id, seal.key_id in keys, rows)


def unpack(path: Path, folder: Path, keys: Keys) -> Manifest:
    """Write all files of a bundle into a folder, which must be empty or not there yet; ``manifest.json`` last.

    Raises as ``read_manifest``, and ``InvalidSettings`` where a file cannot be written. The folder is then empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidSettings(f"{folder}: is not an empty folder; a bundle is unpacked into one")
    with _opened(path, keys) as (archive, manifest, seal):
        try:
            _write_all(archive, manifest, folder)
            _write(folder / SIGNATURE_FILE, seal.signature)
            _write(folder / MANIFEST_FILE, seal.manifest)  # a folder that has it has all its files
        except BaseException:
            _empty(folder)
            raise
    return manifest


def read_goldens(folder: Path, manifest: Manifest) -> list[Golden]:
    """The golden rows of an unpacked bundle, those of the model that answers first. Raises ``InvalidModel``."""
    return [read_golden(folder / path) for path in golden_paths(manifest)]


def golden_paths(manifest: Manifest) -> list[str]:
    """Where the golden rows of each model are, those of the model that answers first."""
    paths = sorted(path for path in manifest.files if path.startswith(f"{GOLDEN_FOLDER}/"))
    return sorted(paths, key=lambda path: path != manifest.golden)


def open_bundle(folder: Path, threads: int | None = None) -> Engine:
    """The model of an unpacked bundle, in this process. Raises ``InvalidModel`` where it cannot be used here."""
    from forwardpass.engine.engine import Engine
    from forwardpass.registry import find_model

    manifest = read_manifest_file(folder / MANIFEST_FILE)
    return Engine.open(find_model(folder / MODELS_FOLDER / manifest.model), threads)


@contextmanager
def _opened(path: Path, keys: Keys | None) -> Iterator[tuple[ArchiveReader, Manifest, _Seal]]:
    """The archive behind its manifest, whose signature holds; with ``None`` any key will do."""
    try:
        with path.open("rb") as file:
            archive = ArchiveReader(file)
            data = archive.read(MANIFEST_FILE, MOST_MANIFEST)
            signature = archive.read(SIGNATURE_FILE, MOST_SIGNATURE)
            key_id = _check_signature(data, signature, keys)
            manifest = decode_manifest(data)
            _check_size(file, manifest, {MANIFEST_FILE: len(data), SIGNATURE_FILE: len(signature)})
            yield archive, manifest, _Seal(data, signature, key_id)
    except OSError as reason:
        raise NotFound(f"{path}: the bundle cannot be read: {reason.strerror or reason}") from None
    except InvalidModel as error:
        raise InvalidModel(f"{path.name}: {error.message}") from None


def _check_signature(data: bytes, signature: bytes, keys: Keys | None) -> str:
    from forwardpass.edge import signing

    try:
        return (
            signing.key_id(signing.signer(data, signature)) if keys is None else signing.verify(data, signature, keys)
        )
    except ForwardpassError as error:
        raise InvalidModel(f"{MANIFEST_FILE}: {error.message}") from None


def _check_size(file: BinaryIO, manifest: Manifest, head: Mapping[str, int]) -> None:
    sizes = {**head, **{name: entry.size for name, entry in manifest.files.items()}}
    wanted = sum(archived_size(name, size) for name, size in sizes.items()) + directory_size(sizes)
    there = os.fstat(file.fileno()).st_size
    if there != wanted:
        what = "it was cut short" if there < wanted else "something was added to it"
        raise InvalidModel(f"has {there} bytes where {wanted} are signed for; {what}")


def _check_all(
    archive: ArchiveReader, manifest: Manifest, keep: Mapping[str, bytearray] = MappingProxyType({})
) -> None:
    for name in sorted(manifest.files):
        _take(archive, manifest, name, keep[name].extend if name in keep else lambda chunk: None)
    archive.finish()


def _write_all(archive: ArchiveReader, manifest: Manifest, folder: Path) -> None:
    for name in sorted(manifest.files):
        with _new_file(folder / name) as file:
            _take(archive, manifest, name, file.write)
    archive.finish()


def _take(archive: ArchiveReader, manifest: Manifest, name: str, write: Write) -> None:
    entry = manifest.files[name]
    if archive.copy(name, entry.size, write) != entry.sha256:
        raise InvalidModel(f"{name}: its content is not what was signed")


def _write(path: Path, content: bytes) -> None:
    with _new_file(path) as file:
        file.write(content)


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that was not there, its folders made. Raises ``InvalidSettings`` where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            yield file
    except OSError as reason:
        raise InvalidSettings(f"{path}: cannot be written: {reason.strerror or reason}") from None


def _empty(folder: Path) -> None:
    for item in folder.iterdir() if folder.is_dir() else ():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
