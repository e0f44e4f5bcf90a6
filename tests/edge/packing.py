"""Bundles of any files, signed, without a model that could run: for tests of what carries and keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from forwardpass.edge.archive import write_archive
from forwardpass.edge.manifest import MANIFEST_FILE, SIGNATURE_FILE, FileEntry, Manifest, encode_manifest
from forwardpass.edge.signing import create_key, public_file, read_private_key, sign

TARGET = "linux-x86_64"


def pack(path: Path, key: Path, version: str, files: Mapping[str, bytes], target: str = TARGET) -> Path:
    """Write a bundle of the model ``motor``; ``files`` by their names in its folder."""
    contents = {f"models/motor/{name}": content for name, content in files.items()}
    entries = {name: FileEntry(hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}
    manifest = encode_manifest(
        Manifest("motor", version, target, "motor", runtime={}, files=entries, golden="", created_by="0")
    )
    head = [(MANIFEST_FILE, manifest), (SIGNATURE_FILE, sign(manifest, read_private_key(key)))]
    with open(path, "wb") as file:
        write_archive(file, [*head, *sorted(contents.items())])
    return path


def make_key(folder: Path) -> Path:
    """A key to sign bundles with; its public half lies beside it."""
    file = folder / "bundle.key"
    create_key(file)
    return file


def trust(keys: Path, key: Path) -> None:
    """Put a key's public half where an agent looks for keys."""
    keys.mkdir(parents=True, exist_ok=True)
    (keys / "publisher.pub").write_bytes(public_file(key).read_bytes())
