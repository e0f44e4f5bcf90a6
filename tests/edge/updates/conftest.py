"""A publisher and a device: a folder that is served, and a home that trusts it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.edge.bundles import make_key, pack, trust
from tests.edge.updates.serving import Link, serve

from forwardpass.edge.bundle import unpack
from forwardpass.edge.home import Home
from forwardpass.edge.signing import read_public_keys
from forwardpass.edge.slots import Slot, Slots

tuf = pytest.importorskip("tuf", reason="updates need tuf (the extra `updates`)")

from forwardpass.edge.updates.repository import Published, Repository  # noqa: E402
from forwardpass.edge.updates.signers import Signers  # noqa: E402

DAY = timedelta(days=1)
SHARED = random.Random(0).randbytes(1_000_000)  # more than three chunks; in every version


class Publisher:
    """Publishes versions of ``motor`` into ``folder``. ``now`` is its clock, None for the real one."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self.root = root
        self.folder = root / "served"
        self.clock = clock
        self.bundle_key = make_key(root)
        self.signers = Signers(root / "keys")

    def repository(self) -> Repository:
        return Repository(self.folder, self.signers, self.clock)

    def pack(self, version: str, weights: bytes = b"", target: str = "linux-x86_64") -> Path:
        files = {
            "model.onnx": weights or random.Random(version).randbytes(300_000),
            "vocabulary.txt": SHARED,
            "labels.txt": b"ok",
        }
        return pack(self.root / f"motor-{version}.bundle", self.bundle_key, version, files, target)

    def publish(
        self, version: str, lasting: timedelta = 30 * DAY, force: bool = False, weights: bytes = b""
    ) -> Published:
        self.signers.create()
        return self.publish_again(version, lasting, force, weights)

    def publish_again(
        self, version: str, lasting: timedelta = 30 * DAY, force: bool = False, weights: bytes = b""
    ) -> Published:
        """With the keys that are there."""
        return self.repository().publish(self.pack(version, weights), "stable", lasting, force)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses power but where a ``Disk`` says so."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    folder = tmp_path / "publisher"
    folder.mkdir()
    return Publisher(folder, time.time)


@pytest.fixture
def link(publisher: Publisher) -> Iterator[Link]:
    publisher.folder.mkdir(exist_ok=True)
    with serve(publisher.folder) as link:
        yield link


@pytest.fixture
def home(tmp_path: Path, publisher: Publisher) -> Home:
    """A device that trusts the publisher, as soon as there is something to trust."""
    home = Home(tmp_path / "home")
    home.create()
    trust(home.keys, publisher.bundle_key)
    return home


def install(home: Home, bundle: Path) -> Slot:
    """What the first installation by hand does."""
    slots = Slots(home)
    folder = slots.free()
    unpack(bundle, folder, read_public_keys(home.keys))
    slot = slots.read(folder)
    slots.activate(slot)
    return slot


def trust_root(home: Home, publisher: Publisher) -> None:
    (home.updates / "root.json").write_bytes(publisher.repository().first_root.read_bytes())
