"""Publishing: what is written, what is refused, and that nobody ever sees half of it."""

from __future__ import annotations

import shutil
import stat
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.edge.power import Disk, PowerLoss
from tests.edge.updates.conftest import DAY, SHARED, Publisher, trust_root
from tests.edge.updates.serving import Link

from forwardpass.edge.home import Home
from forwardpass.edge.updates.client import Client
from forwardpass.edge.updates.release import Release
from forwardpass.edge.updates.repository import Repository
from forwardpass.edge.updates.signers import Signers
from forwardpass.errors import InvalidInput, InvalidModel, InvalidSettings

PATH = "stable/linux-x86_64/motor.json"


def read(link: Link, home: Home) -> tuple[Release, bytes]:
    """The release that a device sees, and the bundle it would put together."""
    client = Client(link.url, home.updates)
    release = client.latest(PATH)
    assert release is not None
    return release, b"".join(chunk.inline or client.chunk(chunk) for chunk in release.chunks)


def test_a_device_gets_the_bundle_that_was_published(publisher: Publisher, link: Link, home: Home) -> None:
    published = publisher.publish("1")
    trust_root(home, publisher)
    release, content = read(link, home)
    assert release == published.release
    assert content == (publisher.root / "motor-1.bundle").read_bytes()
    assert published.path == PATH


def test_nobody_else_may_read_the_keys(publisher: Publisher) -> None:
    publisher.publish("1")
    keys = list(publisher.signers.folder.glob("*.key"))
    assert {key.name for key in keys} == {"root.key", "targets.key", "snapshot.key", "timestamp.key"}
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE(publisher.signers.folder.stat().st_mode) == 0o700
    served = b"".join(path.read_bytes() for path in publisher.folder.rglob("*") if path.is_file())
    assert b"PRIVATE" not in served


def test_keys_are_not_served(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="would be served"):
        Repository(tmp_path, Signers(tmp_path / "keys"))


def test_versions_share_the_chunks_of_files_they_share(publisher: Publisher) -> None:
    first = publisher.publish("1")
    second = publisher.publish("2")
    assert first.new_bytes > len(SHARED)
    assert second.new_bytes < second.release.size - len(SHARED)
    assert all(chunk.size <= 256 * 1024 for chunk in second.release.chunks)


@pytest.mark.parametrize("version", ["9", "10"])
def test_a_version_that_is_not_newer_is_refused(publisher: Publisher, version: str) -> None:
    publisher.publish("10")
    with pytest.raises(InvalidInput, match=r"stable has motor 10 for linux-x86_64 already.*--force"):
        publisher.publish(version)
    assert publisher.publish(version, force=True).older == (version == "9")


def test_other_targets_and_channels_have_releases_of_their_own(publisher: Publisher, link: Link, home: Home) -> None:
    publisher.publish("2")
    repository = publisher.repository()
    repository.publish(publisher.pack("1", target="jetson"), "stable", DAY)
    repository.publish(publisher.pack("1"), "beta", DAY)
    trust_root(home, publisher)
    client = Client(link.url, home.updates)
    paths = {path: client.latest(path) for path in (PATH, "stable/jetson/motor.json", "beta/linux-x86_64/motor.json")}
    assert [release and (release.version, release.target) for release in paths.values()] == [
        ("2", "linux-x86_64"),
        ("1", "jetson"),
        ("1", "linux-x86_64"),
    ]


def test_a_channel_that_is_no_name_is_refused(publisher: Publisher) -> None:
    publisher.signers.create()
    with pytest.raises(InvalidSettings, match=r"channel '\.\./x' cannot be published under"):
        publisher.repository().publish(publisher.pack("1"), "../x", DAY)


def test_a_damaged_bundle_is_not_published(publisher: Publisher) -> None:
    publisher.signers.create()
    bundle = publisher.pack("1")
    bundle.write_bytes(bundle.read_bytes().replace(SHARED, bytes(len(SHARED))))
    with pytest.raises(InvalidModel, match=r"vocabulary\.txt"):
        publisher.repository().publish(bundle, "stable", DAY)
    assert not publisher.folder.exists()


def test_other_keys_are_refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish("1")
    others = Signers(tmp_path / "others")
    others.create()
    with pytest.raises(InvalidSettings, match="begun with other keys"):
        Repository(publisher.folder, others).publish(publisher.pack("2"), "stable", DAY)


def test_a_missing_key_is_named(publisher: Publisher) -> None:
    publisher.publish("1")
    (publisher.signers.folder / "snapshot.key").unlink()
    with pytest.raises(InvalidSettings, match="the snapshot key is not there"):
        publisher.publish_again("2")


def test_the_root_key_may_lie_elsewhere(publisher: Publisher) -> None:
    publisher.publish("1")
    (publisher.signers.folder / "root.key").unlink()
    publisher.publish_again("2")


@pytest.mark.parametrize("name", ["timestamp.json", "targets.json", "snapshot.json"])
def test_what_others_wrote_is_not_signed(publisher: Publisher, name: str) -> None:
    publisher.publish("1")
    (file,) = (publisher.folder / "metadata").glob(f"*{name}")
    file.write_bytes(file.read_bytes().replace(b'"spec_version"', b'"x":1,"spec_version"'))
    with pytest.raises(InvalidModel, match="is not what was published"):
        publisher.publish("2")


def test_refreshing_makes_it_hold_longer(publisher: Publisher, link: Link, home: Home) -> None:
    now = time.time() - 3 * DAY.total_seconds()
    publisher.clock = lambda: now
    publisher.publish("1", lasting=DAY)
    trust_root(home, publisher)
    with pytest.raises(InvalidModel, match="expired"):
        read(link, home)
    publisher.clock = time.time
    expires = publisher.repository().refresh(timedelta(hours=1))
    assert expires.timestamp() > time.time()
    assert read(link, home)[0].version == "1"


def test_nothing_to_refresh(publisher: Publisher) -> None:
    publisher.signers.create()
    with pytest.raises(InvalidSettings, match="nothing is published"):
        publisher.repository().refresh(DAY)


def test_the_root_is_renewed_before_it_expires(publisher: Publisher, link: Link, home: Home) -> None:
    ago = time.time() - 3700 * DAY.total_seconds()
    publisher.clock = lambda: ago
    publisher.publish("1")
    trust_root(home, publisher)
    publisher.clock = time.time
    publisher.publish("2")
    assert (publisher.folder / "metadata/2.root.json").exists()
    assert read(link, home)[0].version == "2"


def test_a_folder_that_was_lost_is_begun_again(publisher: Publisher, link: Link, home: Home) -> None:
    publisher.publish("1")
    trust_root(home, publisher)
    read(link, home)
    for item in publisher.folder.iterdir():
        shutil.rmtree(item)
    later = time.time() + 5
    publisher.clock = lambda: later
    publisher.publish("2")
    assert read(link, home)[0].version == "2"


def test_whoever_reads_meanwhile_sees_one_or_the_other(
    publisher: Publisher, link: Link, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing killed after every operation on the disk: a device gets the old bundle or the new one, whole."""
    publisher.publish("1")
    trust_root(home, publisher)
    bundle, kept = publisher.pack("2"), publisher.root / "kept"
    shutil.copytree(publisher.folder, kept)
    expected = {version: (publisher.root / f"motor-{version}.bundle").read_bytes() for version in "12"}
    seen = []
    for stop in range(1000):
        disk = Disk(publisher.folder, stop)
        with monkeypatch.context() as patch:
            disk.watch(patch)
            try:
                publisher.repository().publish(bundle, "stable", DAY)
            except PowerLoss:
                done = False
            else:
                done = True
        shutil.rmtree(home.updates / "metadata", ignore_errors=True)
        release, content = read(link, home)
        assert content == expected[release.version]
        seen.append(release.version)
        if done:
            break
        shutil.rmtree(publisher.folder)
        shutil.copytree(kept, publisher.folder)
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ("1", "2")
