"""Bundles on the device: whole ones are unpacked, and one changed byte is refused, with the file's name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.edge.bundles import FILES, Workshop

from forwardpass.edge.archive import archived_size
from forwardpass.edge.bundle import examine, read_goldens, read_manifest, unpack, verify
from forwardpass.edge.manifest import FileEntry, read_manifest_file
from forwardpass.errors import InvalidModel, InvalidSettings, NotFound


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def refused(workshop: Workshop, path: Path, says: str) -> None:
    """By everything that reads the files, and nothing is left behind."""
    folder = workshop.folder / "unpacked"
    for attempt in (verify, lambda path, keys: unpack(path, folder, keys), examine):
        with pytest.raises(InvalidModel, match=says):
            attempt(path, workshop.keys)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_whole_one(workshop: Workshop) -> None:
    path, folder = workshop.bundle(), workshop.folder / "unpacked"
    manifest = workshop.manifest()
    assert read_manifest(path, workshop.keys)[0] == verify(path, workshop.keys) == manifest
    assert unpack(path, folder, workshop.keys) == manifest == read_manifest_file(folder / "manifest.json")
    there = {item.relative_to(folder).as_posix(): item.read_bytes() for item in folder.rglob("*") if item.is_file()}
    assert {name: there.get(name) for name in FILES} == FILES
    assert there.keys() - FILES.keys() == {"manifest.json", "manifest.sig"}
    assert [(golden.instances, golden.answers) for golden in read_goldens(folder, manifest)] == [([1], [2])]


def test_it_is_a_zip_file_to_everybody_else(workshop: Workshop) -> None:
    with zipfile.ZipFile(workshop.bundle()) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == ["manifest.json", "manifest.sig", *sorted(FILES)]
        assert archive.read("models/m/1/model.onnx") == FILES["models/m/1/model.onnx"]
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_whoever_signed_it_is_told(workshop: Workshop) -> None:
    found = examine(workshop.bundle(), workshop.keys)
    assert (found.trusted, found.golden) == (True, {"m": 1})
    assert {found.key_id} == workshop.keys.keys()
    stranger = examine(workshop.bundle(), {})
    assert (stranger.trusted, stranger.key_id) == (False, found.key_id)


def test_a_strangers_bundle_is_not_unpacked(workshop: Workshop) -> None:
    folder, own = workshop.folder / "unpacked", workshop.folder / "own"
    own.mkdir()
    trusted = Workshop(own).keys
    for attempt in (read_manifest, verify, lambda path, keys: unpack(path, folder, keys)):
        with pytest.raises(InvalidModel, match="which is not trusted here"):
            attempt(workshop.bundle(), trusted)
    assert not folder.exists()


def test_any_changed_byte_is_refused_by_its_files_name(workshop: Workshop) -> None:
    path = workshop.bundle()
    good = path.read_bytes()
    owners = list(_owners(path))
    assert len(owners) == len(good)
    for at, name in enumerate(owners):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises(InvalidModel) as caught:
            examine(path, workshop.keys)
        assert name in caught.value.message, f"byte {at}"


def _owners(path: Path) -> Iterator[str]:
    """What must be named when a byte was changed, for each byte."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            yield from [entry.filename] * archived_size(entry.filename, entry.file_size)
        for entry in entries:
            yield from [entry.filename] * (46 + len(entry.filename))
    yield from ["end of the archive"] * 22


def test_one_that_was_cut_short(workshop: Workshop) -> None:
    path = workshop.bundle()
    good = path.read_bytes()
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(InvalidModel, match="cut short"):
            verify(path, workshop.keys)
    path.write_bytes(good[:-1])
    with pytest.raises(InvalidModel, match="cut short"):  # seen without reading the files
        read_manifest(path, workshop.keys)


def test_bytes_that_follow(workshop: Workshop) -> None:
    path = workshop.bundle()
    path.write_bytes(path.read_bytes() + b"\0")
    refused(workshop, path, "something was added to it")


def test_a_file_that_nobody_signed_for(workshop: Workshop) -> None:
    contents = [*FILES.items(), ("models/m/1/steps.py", b"import os\n")]
    refused(workshop, workshop.write(workshop.manifest(), contents), "something was added")


def test_a_name_that_occurs_twice(workshop: Workshop) -> None:
    twice = [*FILES.items(), ("models/m/1/model.yaml", FILES["models/m/1/model.yaml"])]
    refused(workshop, workshop.write(workshop.manifest(), twice), "something was added")


def test_another_file_in_the_place_of_one(workshop: Workshop) -> None:
    others = [(name.replace("model.onnx", "model.omnx"), data) for name, data in FILES.items()]
    refused(workshop, workshop.write(workshop.manifest(), others), r"models/m/1/model\.onnx: its header is not")
    swapped = {**FILES, "models/m/1/model.onnx": b"another" * 9}
    refused(
        workshop,
        workshop.write(workshop.manifest(), list(swapped.items())),
        r"models/m/1/model\.onnx: its content is not what was signed",
    )


def test_a_signed_manifest_that_would_leave_the_folder(workshop: Workshop) -> None:
    manifest = workshop.manifest()
    leaving = replace(manifest, files={**manifest.files, "models/../../x": FileEntry("0" * 64, 1)})
    refused(workshop, workshop.write(leaving, [*FILES.items(), ("models/../../x", b"x")]), "must stay in its folder")
    assert not (workshop.folder.parent / "x").exists()


def test_compressed_contents_are_refused(workshop: Workshop) -> None:
    """What cannot be compressed cannot be a bomb."""
    path = workshop.bundle({**FILES, "models/m/1/zeros": bytes(100_000)})
    verify(path, workshop.keys)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(path.with_name("bomb"), "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
    refused(workshop, path.with_name("bomb"), r"manifest\.json: its header is not")


def test_a_manifest_that_says_it_is_huge(workshop: Workshop) -> None:
    good = workshop.bundle().read_bytes()
    path = workshop.folder / "huge.bundle"
    path.write_bytes(good[:18] + b"\xff\xff\xff\x7f" * 2 + good[26:])
    refused(workshop, path, r"manifest\.json: is said to have 2147483647 bytes; at most")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x7fELF" + bytes(200), b"{}" * 100])
def test_what_is_no_bundle(workshop: Workshop, content: bytes) -> None:
    path = workshop.folder / "m.bundle"
    path.write_bytes(content)
    refused(workshop, path, r"m\.bundle: manifest\.json: ")


def test_a_bundle_that_is_not_there(workshop: Workshop) -> None:
    with pytest.raises(NotFound, match="cannot be read: No such file"):
        verify(workshop.folder / "m.bundle", workshop.keys)


def test_only_into_an_empty_folder(workshop: Workshop) -> None:
    folder = workshop.folder / "full"
    folder.mkdir()
    (folder / "precious").write_text("x")
    with pytest.raises(InvalidSettings, match="is not an empty folder"):
        unpack(workshop.bundle(), folder, workshop.keys)
    assert [item.name for item in folder.iterdir()] == ["precious"]


def test_a_folder_that_cannot_be_written(workshop: Workshop) -> None:
    (workshop.folder / "file").write_text("x")
    with pytest.raises(InvalidSettings, match="cannot be written: Not a directory"):
        unpack(workshop.bundle(), workshop.folder / "file" / "inside", workshop.keys)
