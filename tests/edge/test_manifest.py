"""Manifests: the same bytes for the same content, and nothing that a device must not write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.edge.bundles import Workshop

from forwardpass.edge.manifest import FileEntry, Manifest, decode_manifest, encode_manifest, read_manifest_file
from forwardpass.errors import InvalidModel

GOOD = Workshop(Path()).manifest()


def refused(manifest: Manifest, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        decode_manifest(msgspec.json.encode(manifest))
    with pytest.raises(InvalidModel, match=says):
        encode_manifest(manifest)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    data = encode_manifest(GOOD)
    assert decode_manifest(data) == GOOD
    (tmp_path / "manifest.json").write_bytes(data)
    assert read_manifest_file(tmp_path / "manifest.json") == GOOD
    assert GOOD.size == sum(entry.size for entry in GOOD.files.values()) > 0


def test_the_order_in_which_it_was_put_together_does_not_show() -> None:
    turned = replace(GOOD, files=dict(reversed(GOOD.files.items())), runtime=dict(reversed(GOOD.runtime.items())))
    assert encode_manifest(turned) == encode_manifest(GOOD)


@pytest.mark.parametrize(
    "path",
    [
        "../models/x",
        "models/../../x",
        "models/./x",
        "models//x",
        "/models/x",
        "models/x/",
        "models\\x",
        "models/c:x",
        "models/a\nb",
        "models/a\0b",
        "models/c\N{COMBINING ACUTE ACCENT}:",
        "models/" + "x" * 1000,
        "",
    ],
)
def test_paths_that_leave_the_folder(path: str) -> None:
    refused(replace(GOOD, files={**GOOD.files, path: FileEntry("0" * 64, 1)}), "is no path that a bundle may hold")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": "../m"}, "name: '../m' cannot be one"),
        ({"version": ""}, "version: '' cannot be one"),
        ({"model": "other"}, "the model 'other' has no files"),
        ({"golden": "golden/other.json"}, "the golden rows 'golden/other.json' are not among its files"),
        ({"files": {**GOOD.files, "manifest.json": FileEntry("0" * 64, 1)}}, "lies neither under models/"),
        ({"files": {**GOOD.files, "models": FileEntry("0" * 64, 1)}}, "lies neither under models/"),
        ({"files": {**GOOD.files, "models/x": FileEntry("0" * 63, 1)}}, "no sha256 or size that can be right"),
        ({"files": {**GOOD.files, "models/x": FileEntry("0" * 64, -1)}}, "no sha256 or size that can be right"),
        ({"files": {**GOOD.files, "models/m": FileEntry("0" * 64, 1)}}, "'models/m' is a file and also the folder of"),
        ({"files": {f"models/m/{at}": FileEntry("0" * 64, 1) for at in range(10_001)}, "golden": ""}, "10001 files"),
    ],
)
def test_what_cannot_be_right(changed: dict[str, object], says: str) -> None:
    refused(replace(GOOD, **changed), says)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":1}', b"\xff", b'{"format":1,"name":7}'])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(InvalidModel, match=r"manifest\.json: is no manifest of a bundle"):
        decode_manifest(data)


def test_a_format_of_later() -> None:
    with pytest.raises(InvalidModel, match=r"format 2 is not known here, only 1; update Forwardpass"):
        decode_manifest(b'{"format": 2, "everything": "else"}')


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read: No such file"):
        read_manifest_file(tmp_path / "manifest.json")
