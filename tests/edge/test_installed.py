"""What an agent starts with: a device that has something good to run does so, whatever it was handed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from tests.edge.bundles import make_key, pack
from tests.edge.power import Disk, PowerLoss

from forwardpass.edge import signing
from forwardpass.edge.failures import Failure, Failures
from forwardpass.edge.home import Home
from forwardpass.edge.install import Installed, install, trust
from forwardpass.edge.slots import Slots
from forwardpass.errors import ForwardpassError


class Owner:
    """Of a device: makes bundles, and starts its agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.home.create()
        self.key = make_key(folder)
        self.public = signing.public_file(self.key)

    def bundle(
        self, version: str, runtime: Mapping[str, str] | None = None, later: Mapping[str, str] | None = None
    ) -> Path:
        path, files = self.folder / f"motor-{version}.bundle", {"a": version.encode()}
        return pack(path, self.key, version, files, runtime=runtime, later=later)

    def start(self, bundle: Path | None, trusted: Sequence[Path] = ()) -> Installed:
        return install(self.home, Slots(self.home), bundle, trusted)

    def keys(self) -> set[str]:
        return set(signing.read_public_keys(self.home.keys))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses power but where a ``Disk`` says so."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def new(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


@pytest.fixture
def owner(new: Owner) -> Owner:
    """Of a device that runs version 1."""
    installed = new.start(new.bundle("1"), [new.public])
    Slots(new.home).activate(installed.slot)
    return new


def test_a_first_bundle_and_another(new: Owner) -> None:
    first = new.start(new.bundle("1"), [new.public])
    assert (str(first.slot), first.first, first.beside) == ("motor 1 (slot a)", True, None)
    assert Slots(new.home).active() is None, "before it was found good"
    Slots(new.home).activate(first.slot)
    assert new.start(None) == new.start(new.bundle("1")) == Installed(first.slot)
    other = new.start(new.bundle("2"))
    assert (other.slot, other.first, str(other.beside)) == (first.slot, False, "motor 2 (slot b)")


def gone(owner: Owner) -> tuple[Path, list[Path]]:
    return owner.folder / "none.bundle", []


def cut(owner: Owner) -> tuple[Path, list[Path]]:
    bundle = owner.bundle("2")
    bundle.write_bytes(bundle.read_bytes()[:-5])
    return bundle, []


def unfit(owner: Owner) -> tuple[Path, list[Path]]:
    return owner.bundle("2", runtime={"no_such_module": "1"}), []


def keyless(owner: Owner) -> tuple[Path, list[Path]]:
    for file in owner.home.keys.iterdir():
        file.write_bytes(b"")
    return owner.bundle("1"), []


def no_key(owner: Owner) -> tuple[Path, list[Path]]:
    return owner.bundle("1"), [owner.folder / "none.pub"]


Handed = Callable[[Owner], tuple[Path, list[Path]]]
HANDED: dict[Handed, str] = {
    gone: "none.bundle: the bundle cannot be read",
    cut: "it was cut short",
    unfit: "no_such_module 1 or later is not installed",
    keyless: "no key is trusted in",
    no_key: "none.pub: the key cannot be read",
}


@pytest.mark.parametrize("handed", HANDED)
def test_what_is_active_runs_whatever_is_wrong_with_what_was_handed_over(
    owner: Owner, handed: Handed, caplog: pytest.LogCaptureFixture
) -> None:
    bundle, keys = handed(owner)
    installed = owner.start(bundle, keys)
    assert (str(installed.slot), installed.first, installed.beside) == ("motor 1 (slot a)", False, None)
    assert HANDED[handed] in installed.error
    assert f"{installed.error}; motor 1 (slot a) runs on" in caplog.text


@pytest.mark.parametrize("handed", HANDED)
def test_where_nothing_is_active_that_is_an_error(new: Owner, handed: Handed) -> None:
    if handed is not keyless:
        trust(new.home, [new.public])
    bundle, keys = handed(new)
    with pytest.raises(ForwardpassError) as error:
        new.start(bundle, keys)
    assert HANDED[handed] in error.value.message


@pytest.mark.parametrize("later", [{}, {"made_of": "what only a later version knows"}])
def test_what_was_taken_back_is_not_unpacked_again(owner: Owner, later: dict[str, str]) -> None:
    beside = owner.start(owner.bundle("2", later=later)).beside
    assert beside is not None
    Failures(owner.home.failures).add(Failure(beside.digest, "2", "too slow", 0.0))
    Slots(owner.home).free()
    installed = owner.start(owner.bundle("2", later=later))
    assert installed.beside is None
    assert f"tried and taken back: too slow; remove {owner.home.failures} to" in installed.error
    assert list((owner.home.slots / "b").iterdir()) == []
    assert owner.start(owner.bundle("3")).beside is not None
    owner.home.failures.unlink()
    assert owner.start(owner.bundle("2", later=later)).beside is not None


def test_what_was_refused_for_want_of_something_here_is_tried_again_at_the_next_start(owner: Owner) -> None:
    beside = owner.start(owner.bundle("2")).beside
    assert beside is not None
    failures = Failures(owner.home.failures)
    crashed = Failure("another", "3", "its worker died once", 0.0)
    failures.add(crashed)
    failures.add(Failure(beside.digest, "2", "actions[0] needs a broker", 0.0, unfit=True))
    assert owner.start(owner.bundle("2")).beside == beside
    assert failures.all() == [crashed]


def test_a_disk_that_is_full_keeps_nobody_from_starting(owner: Owner) -> None:
    Failures(owner.home.failures).add(Failure("another", "3", "no broker", 0.0, unfit=True))
    owner.home.failures.with_name("failed.json.tmp").mkdir()  # where that is a folder, the file cannot be written
    assert owner.start(None).error == ""


def test_a_damaged_key_blocks_no_other_and_is_mended_by_trusting_it_again(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    known = owner.keys()
    other = owner.folder / "other" / "other.key"
    signing.create_key(other)
    trust(owner.home, [signing.public_file(other)])
    assert len(owner.keys()) == 2
    (damaged,) = (owner.home.keys / f"{key_id}.pub" for key_id in known)
    damaged.write_bytes(b"")
    assert owner.keys() == {signing.key_id(signing.read_private_key(other).public_key())}
    assert f"{damaged}: is no public key" in caplog.text
    trust(owner.home, [owner.public])
    assert owner.keys() >= known


def test_a_key_that_is_known_is_not_written_again(owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        trust(owner.home, [owner.public])
    assert "is trusted from now on" not in caplog.text


def test_power_lost_while_a_key_is_put_there(new: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every operation on the disk: it is there as a whole or not at all."""
    stopped = 0
    while True:
        disk = Disk(new.home.folder, stopped)
        with monkeypatch.context() as patch:
            disk.watch(patch)
            try:
                trust(new.home, [new.public])
            except PowerLoss:
                pass
            else:
                break
        disk.tear()
        files = list(new.home.keys.glob("*.pub"))
        assert len(files) == len(new.keys()), f"after {stopped} operations: {disk.done[-1:]}"
        for file in files:
            file.unlink()
        stopped += 1
    assert stopped > 3
    assert len(new.keys()) == 1
