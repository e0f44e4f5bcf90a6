"""What a bundle says of itself: name, target, the runtime it needs, and a digest of every file.

``manifest.json`` is the first thing in a bundle and what its signature is over. Its bytes depend on the model
alone, not on the time or the machine. Knows no archive and no key; whoever reads one has checked its signature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from forwardpass.errors import InvalidModel

FORMAT = 1
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.sig"
MODELS_FOLDER = "models"
GOLDEN_FOLDER = "golden"
MOST_FILES = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:\ud800-\udfff]")  # in a path: what some file system reads as something else


@dataclass(frozen=True)
class FileEntry:
    """``size`` in bytes; ``sha256`` as 64 hexadecimal digits."""

    sha256: str
    size: int


@dataclass(frozen=True)
class BundleLimits:
    """Seconds in which a device must have loaded the models, and answered all golden rows of one."""

    load_seconds: float = 60.0
    golden_seconds: float = 30.0


@dataclass(frozen=True)
class Manifest:
    """``files`` are all files of the bundle but the manifest and its signature, by path.

    ``model`` is the one that answers; others under ``models/`` are its members. ``runtime`` maps a module that
    must be importable to its least version ("" for any). ``golden`` is the path of the golden rows that must
    be answered before the bundle is used; "" where no model in it runs on the device.
    """

    name: str
    version: str
    target: str
    model: str
    runtime: dict[str, str]
    files: dict[str, FileEntry]
    golden: str
    created_by: str
    limits: BundleLimits = field(default_factory=BundleLimits)
    format: int = FORMAT

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``: keys sorted, the same for the same manifest. Raises as ``decode_manifest``."""
    _check(manifest)
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes. Raises ``InvalidModel`` where it is none, or names what a device must not write."""
    try:
        version = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format")
        if version is not None and bytes(version) != b"%d" % FORMAT:
            raise InvalidModel(
                f"{MANIFEST_FILE}: format {bytes(version).decode()[:20]} is not known here, only {FORMAT}; "
                "update Forwardpass on this machine, or bundle the model again with the version that is here"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        raise InvalidModel(f"{MANIFEST_FILE}: is no manifest of a bundle: {reason}") from None
    _check(manifest)
    return manifest


def read_manifest_file(path: Path) -> Manifest:
    """The manifest of an unpacked bundle, whose signature was checked when it was unpacked. Raises ``InvalidModel``."""
    try:
        return decode_manifest(path.read_bytes())
    except OSError as reason:
        raise InvalidModel(f"{path}: cannot be read: {reason.strerror or reason}") from None


def check_path(path: str) -> None:
    """Raises ``InvalidModel`` for a path that would lie outside the folder that a bundle is unpacked into."""
    parts = path.split("/")
    plain = path == str(PurePosixPath(path)) and not path.startswith("/") and not _FORBIDDEN.search(path)
    if not plain or any(part in ("", ".", "..") for part in parts) or len(path.encode()) > 1000:
        raise InvalidModel(
            f"{MANIFEST_FILE}: {path[:100]!r} is no path that a bundle may hold; it must stay in its folder"
        )


def _check(manifest: Manifest) -> None:
    for what, name in (("name", manifest.name), ("version", manifest.version), ("model", manifest.model)):
        if not _NAME.fullmatch(name):
            raise InvalidModel(
                f"{MANIFEST_FILE}: {what}: {name[:100]!r} cannot be one; use letters, digits, '.', '_' and '-', "
                "with a letter or digit first"
            )
    if len(manifest.files) > MOST_FILES:
        raise InvalidModel(f"{MANIFEST_FILE}: names {len(manifest.files)} files; at most {MOST_FILES} are taken")
    for path, entry in manifest.files.items():
        _check_file(path, entry)
    _check_folders(manifest)


def _check_file(path: str, entry: FileEntry) -> None:
    check_path(path)
    if path.split("/")[0] not in (MODELS_FOLDER, GOLDEN_FOLDER) or "/" not in path:
        raise InvalidModel(f"{MANIFEST_FILE}: {path!r} lies neither under {MODELS_FOLDER}/ nor under {GOLDEN_FOLDER}/")
    if not _DIGEST.fullmatch(entry.sha256) or entry.size < 0:
        raise InvalidModel(f"{MANIFEST_FILE}: {path!r} has no sha256 or size that can be right: {entry}")


def _check_folders(manifest: Manifest) -> None:
    """The model and the golden rows are there, and no file stands where another needs a folder."""
    if not any(path.startswith(f"{MODELS_FOLDER}/{manifest.model}/") for path in manifest.files):
        raise InvalidModel(f"{MANIFEST_FILE}: the model {manifest.model!r} has no files in the bundle")
    if manifest.golden and manifest.golden not in manifest.files:
        raise InvalidModel(f"{MANIFEST_FILE}: the golden rows {manifest.golden!r} are not among its files")
    for path in manifest.files:
        if above := next((str(item) for item in PurePosixPath(path).parents if str(item) in manifest.files), None):
            raise InvalidModel(f"{MANIFEST_FILE}: {above!r} is a file and also the folder of {path!r}")
