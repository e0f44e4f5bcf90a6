"""Bundles made by hand, right and wrong: of any files, with any manifest, signed by a key of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from forwardpass.edge import signing
from forwardpass.edge.archive import write_archive
from forwardpass.edge.manifest import MANIFEST_FILE, SIGNATURE_FILE, FileEntry, Manifest

FILES = {
    "golden/m.json": b'{"model":"m","instances":[1],"predictions":[2]}',
    "models/m/1/model.onnx": b"weights" * 9,
    "models/m/1/model.yaml": b"artifact: model.onnx\n",
}


@dataclass(frozen=True)
class Workshop:
    """A folder with a key in it."""

    folder: Path

    @property
    def key(self) -> signing.PrivateKey:
        file = self.folder / "own.key"
        if not file.exists():
            signing.create_key(file)
        return signing.read_private_key(file)

    @property
    def keys(self) -> dict[str, signing.PublicKey]:
        public = self.key.public_key()
        return {signing.key_id(public): public}

    def manifest(self, files: Mapping[str, bytes] = FILES) -> Manifest:
        entries = {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
        golden = "golden/m.json" if "golden/m.json" in files else ""
        return Manifest("m", "1", "linux-x86_64", "m", {"numpy": "2.4"}, entries, golden, "a test")

    def write(self, manifest: Manifest, contents: Sequence[tuple[str, bytes]], name: str = "m-1.bundle") -> Path:
        """An archive of these contents behind this manifest, whatever it says, and its true signature."""
        data = msgspec.json.encode(manifest, order="sorted")
        path = self.folder / name
        with path.open("wb") as file:
            write_archive(file, [(MANIFEST_FILE, data), (SIGNATURE_FILE, signing.sign(data, self.key)), *contents])
        return path

    def bundle(self, files: Mapping[str, bytes] = FILES) -> Path:
        """A good bundle."""
        return self.write(self.manifest(files), sorted(files.items()))
