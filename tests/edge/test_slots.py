"""Slots: one good slot is left whatever happens, and whenever it happens."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.edge.bundles import make_key, pack, trust
from tests.edge.power import Disk, PowerLoss

from forwardpass.edge.bundle import unpack
from forwardpass.edge.home import Home
from forwardpass.edge.signing import read_public_keys
from forwardpass.edge.slots import Slot, Slots
from forwardpass.errors import InvalidModel, InvalidSettings

Install = Callable[[str], Slot]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses power but where a ``Disk`` says so."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def install(home: Home, tmp_path: Path) -> Install:
    """Puts a version into the free slot and activates it."""
    key = make_key(tmp_path)
    trust(home.keys, key)

    def install(version: str) -> Slot:
        bundle = tmp_path / f"motor-{version}.bundle"
        if not bundle.exists():
            pack(bundle, key, version, {"model.onnx": version.encode() * 100, "labels.txt": b"ok"})
        return put(home, bundle)

    return install


def put(home: Home, bundle: Path) -> Slot:
    slots = Slots(home)
    folder = slots.free()
    unpack(bundle, folder, read_public_keys(home.keys))
    slot = slots.read(folder)
    slots.activate(slot)
    return slot


def running(home: Home) -> str | None:
    """The version that an agent would run that starts now."""
    slot = Slots(home).start()
    return slot.manifest.version if slot else None


def spoil(home: Home, slot: Slot) -> None:
    (home.slots / slot.name / "models/motor/model.onnx").write_bytes(b"spoilt")


def test_nothing_runs_before_something_is_installed(home: Home) -> None:
    assert running(home) is None
    assert Slots(home).active() is None


def test_versions_take_turns_in_the_two_slots(home: Home, install: Install) -> None:
    assert [install(version).name for version in "123"] == ["a", "b", "a"]
    assert running(home) == "3"
    assert (home.slots / "a/models/motor/labels.txt").read_bytes() == b"ok"


def test_back_to_the_version_before(home: Home, install: Install) -> None:
    install("1")
    install("2")
    assert Slots(home).revert("slow").manifest.version == "1"
    assert running(home) == "1"
    with pytest.raises(InvalidModel, match="no slot to go back to"):
        Slots(home).revert("slow")


def test_a_slot_that_was_emptied_is_no_way_back(home: Home, install: Install) -> None:
    install("1")
    install("2")
    Slots(home).free()
    with pytest.raises(InvalidModel, match="no slot to go back to"):
        Slots(home).revert("slow")
    assert running(home) == "2"


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest"])
def test_a_damaged_slot_gives_way_to_the_one_before(
    home: Home, install: Install, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    install("1")
    slot = install("2")
    if damage == "changed":
        spoil(home, slot)
    elif damage == "missing":
        (slot.folder / "models/motor/labels.txt").unlink()
    else:
        (slot.folder / "manifest.json").write_bytes(b"{")
    with caplog.at_level(logging.ERROR):
        assert running(home) == "1"
    assert "is damaged" in caplog.text
    assert running(home) == "1"


def test_two_damaged_slots_are_told_clearly(home: Home, install: Install) -> None:
    for version in "12":
        spoil(home, install(version))
    with pytest.raises(InvalidModel, match=r"no slot of .* is good: .*model\.onnx.*--bundle"):
        running(home)
    install("3")
    assert running(home) == "3"


def test_one_damaged_slot_with_no_way_back(home: Home, install: Install) -> None:
    spoil(home, install("1"))
    with pytest.raises(InvalidModel, match="install a bundle again"):
        running(home)


@pytest.mark.parametrize("content", [b"", b"{", b'{"active": "../../etc"}', b"\xff\x00"])
def test_a_damaged_state_is_made_again_from_the_slots(home: Home, install: Install, content: bytes) -> None:
    install("9")
    install("10")
    home.state.write_bytes(content)
    assert running(home) == "9", "the older one: it did run"
    shutil.rmtree(home.slots / "a")
    home.state.write_bytes(content)
    assert running(home) == "10"


def test_a_damaged_state_with_no_slot(home: Home) -> None:
    home.state.write_bytes(b"{")
    assert running(home) is None


def test_what_is_not_known_is_left_alone(home: Home, install: Install) -> None:
    (home.folder / "notes.txt").write_text("mine")
    (home.slots / "c").mkdir()
    for version in "123":
        install(version)
    assert (home.folder / "notes.txt").read_text() == "mine"
    assert (home.slots / "c").is_dir()


def test_trials_are_counted_by_content(home: Home, install: Install) -> None:
    slot, slots = install("1"), Slots(home)
    assert [slots.begin_trial(slot), Slots(home).begin_trial(slot)] == [1, 2]
    assert running(home) == "1"
    other = install("2")
    assert slots.begin_trial(other) == 1
    slots.end_trial()
    assert slots.begin_trial(other) == 1


def test_one_that_nobody_has_seen_well_is_active_with_a_way_back_until_it_is(home: Home, install: Install) -> None:
    one, two = install("1"), install("2")
    slots = Slots(home)
    slots.activate(one)
    assert slots.proven(one)
    slots.activate(two, proven=False)
    assert (running(home), Slots(home).proven(two)) == ("2", False)
    slots.activate(two)
    assert Slots(home).proven(two)
    assert Slots(home).revert("it cannot be loaded") == one
    slots.activate(two, proven=False)
    slots.revert("its golden rows are answered otherwise")
    assert (running(home), Slots(home).proven(one)) == ("1", True)


def test_one_agent_for_a_home(home: Home) -> None:
    with home.lock(), pytest.raises(InvalidSettings, match="another agent"), home.lock():
        pass
    with home.lock():
        pass


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match="cannot make the home"):
        Home(tmp_path / "file" / "home").create()


@pytest.mark.parametrize("torn", [False, True], ids=["killed", "power lost"])
def test_a_good_slot_is_left_wherever_it_stops(
    home: Home, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    """Updates, a trial and a way back, cut off after every operation on the disk, and begun again."""
    for version in "3412":
        install(version)
    shutil.copytree(home.folder, tmp_path / "kept")

    def sequence() -> None:
        slots = Slots(home)
        slots.start()
        slot = put(home, tmp_path / "motor-3.bundle")
        slots.begin_trial(slot)
        slots.end_trial()
        put(home, tmp_path / "motor-4.bundle")
        slots.revert("slow")

    stopped = 0
    while True:
        shutil.rmtree(home.folder)
        shutil.copytree(tmp_path / "kept", home.folder)
        disk = Disk(home.folder, stopped)
        with monkeypatch.context() as patch:
            disk.watch(patch)
            try:
                sequence()
            except PowerLoss:
                pass
            else:
                break
        if torn:
            disk.tear()
        assert running(home) in ("2", "3", "4"), f"after {stopped} operations: {disk.done[-1:]}"
        stopped += 1
    assert stopped > 40
    assert running(home) == "3"
    assert put(home, tmp_path / "motor-1.bundle").manifest.version == "1"
