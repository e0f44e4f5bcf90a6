"""Bundles made by hand, right and wrong: of any files, signed, without a model that could run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from forwardpass.edge import signing
from forwardpass.edge.archive import write_archive
from forwardpass.edge.manifest import MANIFEST_FILE, SIGNATURE_FILE, FileEntry, Manifest

KEY_FILE = "own.key"
TARGET = "linux-x86_64"
FILES = {
    "golden/m.json": b'{"model":"m","instances":[1],"predictions":[2]}',
    "models/m/1/model.onnx": b"weights" * 9,
    "models/m/1/model.yaml": b"artifact: model.onnx\n",
}


def make_key(folder: Path) -> Path:
    """A key to sign bundles with; its public half lies beside it."""
    file = folder / KEY_FILE
    signing.create_key(file)
    return file


def trust(keys: Path, key: Path) -> None:
    """Put a key's public half where an agent looks for keys."""
    keys.mkdir(parents=True, exist_ok=True)
    (keys / "publisher.pub").write_bytes(signing.public_file(key).read_bytes())


def pack(
    path: Path,
    key: Path,
    version: str,
    files: Mapping[str, bytes],
    target: str = TARGET,
    runtime: Mapping[str, str] | None = None,
    later: Mapping[str, str] | None = None,
) -> Path:
    """Write a good bundle of the model ``motor``; ``files`` by their names in its folder.

    ``later``: what only a later Forwardpass writes into a manifest, and understands.
    """
    contents = {f"models/motor/{name}": content for name, content in files.items()}
    manifest = Manifest("motor", version, target, "motor", dict(runtime or {}), _entries(contents), "", "a test")
    return _write(path, key, manifest, sorted(contents.items()), later or {})


@dataclass(frozen=True)
class Workshop:
    """A folder with a key in it, where bundles of the model ``m`` are made."""

    folder: Path

    @property
    def key_file(self) -> Path:
        file = self.folder / KEY_FILE
        return file if file.exists() else make_key(self.folder)

    @property
    def key(self) -> signing.PrivateKey:
        return signing.read_private_key(self.key_file)

    @property
    def keys(self) -> dict[str, signing.PublicKey]:
        return signing.read_public_keys(signing.public_file(self.key_file))

    def manifest(self, files: Mapping[str, bytes] = FILES) -> Manifest:
        golden = "golden/m.json" if "golden/m.json" in files else ""
        return Manifest("m", "1", TARGET, "m", {"numpy": "2.4"}, _entries(files), golden, "a test")

    def write(self, manifest: Manifest, contents: Sequence[tuple[str, bytes]]) -> Path:
        """An archive of these contents behind this manifest, whatever it says, and its true signature."""
        return _write(self.folder / "m-1.bundle", self.key_file, manifest, contents)

    def bundle(self, files: Mapping[str, bytes] = FILES) -> Path:
        """A good bundle."""
        return self.write(self.manifest(files), sorted(files.items()))


def _entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    return {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}


def _write(
    path: Path,
    key: Path,
    manifest: Manifest,
    contents: Sequence[tuple[str, bytes]],
    later: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    said = {**msgspec.to_builtins(manifest), **later}
    data = msgspec.json.format(msgspec.json.encode(said, order="sorted"), indent=1) + b"\n"  # and not checked
    head = [(MANIFEST_FILE, data), (SIGNATURE_FILE, signing.sign(data, signing.read_private_key(key)))]
    with path.open("wb") as file:
        write_archive(file, [*head, *contents])
    return path
