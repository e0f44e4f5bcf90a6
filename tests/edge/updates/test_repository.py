"""Publishing: what is written, what is refused, and that nobody ever sees half of it."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable
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
from forwardpass.edge.updates.signers import ROLES, Signers
from forwardpass.errors import InvalidInput, InvalidModel, InvalidSettings, NotReady

PATH = "stable/linux-x86_64/motor.json"
ONLINE = ROLES[1:]


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
    assert not publisher.folder.exists()


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


# Keys that are replaced


def test_a_device_that_knows_the_first_root_alone_follows_to_the_third(
    publisher: Publisher, link: Link, home: Home
) -> None:
    publisher.publish("1")
    trust_root(home, publisher)
    publisher.repository().refresh(DAY, ["root"])
    publisher.repository().refresh(DAY, ONLINE)
    publisher.publish("2")
    assert (publisher.folder / "metadata/3.root.json").exists()
    assert read(link, home)[0].version == "2"
    publisher.repository().refresh(DAY, ROLES)
    publisher.publish("3")
    assert read(link, home)[0].version == "3", "one that was there all the time follows as well"


def test_what_a_key_signs_that_was_replaced_is_refused(publisher: Publisher, link: Link, home: Home) -> None:
    """Whoever has the old keys publishes a newer state with them, as large a number as there is."""
    publisher.publish("1")
    trust_root(home, publisher)
    thief = Signers(publisher.root / "stolen")
    shutil.copytree(publisher.signers.folder, thief.folder)
    future = time.time() + 9 * DAY.total_seconds()
    shutil.copytree(publisher.folder, publisher.root / "theirs")
    Repository(publisher.root / "theirs", thief, lambda: future).publish(publisher.pack("666"), "stable", DAY)

    publisher.repository().refresh(DAY, ONLINE)
    link.changes["timestamp.json"] = lambda content: (publisher.root / "theirs/metadata/timestamp.json").read_bytes()
    with pytest.raises(InvalidModel, match="not signed by the publisher"):
        read(link, home)
    link.changes.clear()
    assert read(link, home)[0].version == "1"
    with pytest.raises(InvalidSettings, match="not the one that devices believe"):
        Repository(publisher.folder, thief).publish(publisher.pack("667"), "stable", DAY)


def test_a_device_that_believed_a_thief_comes_back(publisher: Publisher, link: Link, home: Home) -> None:
    """It has seen a state of a far higher number, signed by keys that were good then."""
    publisher.publish("1")
    trust_root(home, publisher)
    shutil.copytree(publisher.folder, publisher.root / "theirs")
    future = time.time() + 999 * DAY.total_seconds()
    theirs = Repository(publisher.root / "theirs", publisher.signers, lambda: future)
    theirs.refresh(DAY)
    names = [path.name for path in (publisher.root / "theirs/metadata").iterdir()]
    for name in names:
        shutil.copy(publisher.root / "theirs/metadata" / name, publisher.folder / "metadata")
    assert read(link, home)[0].version == "1"
    shutil.rmtree(publisher.folder / "metadata")
    (publisher.folder / "metadata").mkdir()
    (publisher.folder / "metadata/1.root.json").write_bytes((home.updates / "root.json").read_bytes())
    publisher.publish("2")
    with pytest.raises(InvalidModel, match="older than what was seen before"):
        read(link, home)
    publisher.repository().refresh(DAY, ONLINE)
    assert read(link, home)[0].version == "2"


def test_a_key_that_was_lost_is_replaced(publisher: Publisher, link: Link, home: Home) -> None:
    publisher.publish("1")
    trust_root(home, publisher)
    (publisher.signers.folder / "snapshot.key").unlink()
    (publisher.signers.folder / "snapshot.pub").unlink()
    publisher.repository().refresh(DAY, ONLINE)
    publisher.publish("2")
    assert read(link, home)[0].version == "2"


def test_keys_are_replaced_with_the_root_key_only(publisher: Publisher) -> None:
    publisher.publish("1")
    (publisher.signers.folder / "root.key").unlink()
    before = sorted(publisher.signers.folder.iterdir())
    with pytest.raises(InvalidSettings, match=r"the root key is not there: .*root\.key"):
        publisher.repository().refresh(DAY, ONLINE)
    assert sorted(publisher.signers.folder.iterdir()) == before
    publisher.publish_again("2")


def test_two_repositories_may_share_the_folder_of_keys(publisher: Publisher, link: Link, home: Home) -> None:
    publisher.publish("1")
    other = Repository(publisher.root / "other", publisher.signers)
    other.publish(publisher.pack("1"), "stable", DAY)
    other.refresh(DAY, ROLES)
    publisher.publish("2")
    trust_root(home, publisher)
    assert read(link, home)[0].version == "2"
    other.publish(publisher.pack("2"), "stable", DAY)


def cut_off(publisher: Publisher, stop: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> bool:
    """Whether the work came to its end before power was lost after so many operations on the publisher's disk."""
    disk = Disk(publisher.root, stop)
    with monkeypatch.context() as patch:
        disk.watch(patch)
        try:
            work()
        except PowerLoss:
            return False
    return True


def test_a_replacement_that_was_cut_off_is_said_again(
    publisher: Publisher, link: Link, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("root", "timestamp")
    publisher.publish("1", weights=b"small")
    trust_root(home, publisher)
    served, keys = publisher.root / "kept served", publisher.root / "kept keys"
    shutil.copytree(publisher.folder, served)
    shutil.copytree(publisher.signers.folder, keys)
    done, stop, publishes = False, 0, []
    while not done:
        done = cut_off(publisher, stop, monkeypatch, lambda: publisher.repository().refresh(DAY, both))
        try:
            publisher.publish_again("2", weights=b"small")
            publishes.append(True)
        except (InvalidModel, InvalidSettings):
            cut_off(publisher, stop, monkeypatch, lambda: publisher.repository().refresh(DAY, both))
            publisher.repository().refresh(DAY, both)
            publisher.publish_again("2", weights=b"small")
            publishes.append(False)
        shutil.rmtree(home.updates / "metadata", ignore_errors=True)
        assert read(link, home)[0].version == "2"
        for kept, folder in ((served, publisher.folder), (keys, publisher.signers.folder)):
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
        stop += 1
    assert publishes[0]
    assert publishes[-1]
    assert False in publishes, "between the root and what it trusts"


# What is past


def test_what_newer_releases_have_replaced_is_removed(publisher: Publisher, link: Link, home: Home) -> None:
    now = time.time() - 100
    publisher.clock = lambda: now
    for version in "12345":
        now += 1
        publisher.publish(version)
    trust_root(home, publisher)
    (publisher.folder / "chunks/half.tmp").write_bytes(b"cut off")
    (publisher.folder / "chunks/README").write_bytes(b"somebody's own")
    before = sum(path.stat().st_size for path in publisher.folder.rglob("*") if path.is_file())
    pruned = publisher.repository().prune(2)
    after = sum(path.stat().st_size for path in publisher.folder.rglob("*") if path.is_file())
    assert before - after == pruned.size > 3 * 300_000
    names = [path.name for path in publisher.folder.rglob("*") if path.is_file()]
    assert sum(name.endswith("motor.json") for name in names) == 2
    assert sum(name.endswith("targets.json") for name in names) == 2
    assert "README" in names
    assert "half.tmp" not in names
    release, content = read(link, home)
    assert release.version == "5"
    assert content == (publisher.root / "motor-5.bundle").read_bytes()
    assert publisher.repository().prune(2).files == 0
    publisher.publish("6")
    assert read(link, home)[0].version == "6"


def test_a_device_in_the_middle_of_a_look_finds_the_releases_that_are_kept(
    publisher: Publisher, link: Link, home: Home
) -> None:
    now = time.time() - 100
    publisher.clock = lambda: now
    publisher.publish("1")
    trust_root(home, publisher)
    client = Client(link.url, home.updates)
    release = client.latest(PATH)
    assert release is not None
    chunk = next(chunk for chunk in release.chunks if chunk.inline is None and chunk.size < 100_000)
    for version in "23":
        now += 1
        publisher.publish(version)
    publisher.repository().prune(3)
    assert len(client.chunk(chunk)) == chunk.size
    publisher.repository().prune(1)
    with pytest.raises(NotReady, match="404"):
        client.chunk(chunk)
    assert read(link, home)[0].version == "3"


def test_releases_of_other_channels_and_targets_are_kept(publisher: Publisher, link: Link, home: Home) -> None:
    publisher.publish("2")
    publisher.repository().publish(publisher.pack("1", target="jetson"), "stable", DAY)
    publisher.repository().publish(publisher.pack("1"), "beta", DAY)
    publisher.repository().prune(1)
    trust_root(home, publisher)
    for path in (PATH, "stable/jetson/motor.json", "beta/linux-x86_64/motor.json"):
        client = Client(link.url, home.updates)
        release = client.latest(path)
        assert release is not None
        assert all(client.chunk(chunk) for chunk in release.chunks if chunk.inline is None)


def test_nothing_is_removed_where_what_is_published_is_damaged(publisher: Publisher) -> None:
    publisher.publish("1")
    publisher.publish("2")
    before = len(list(publisher.folder.rglob("*")))
    for file in publisher.folder.rglob("*.motor.json"):
        file.write_bytes(b"{}")
    with pytest.raises(InvalidModel, match="is not what was published"):
        publisher.repository().prune(1)
    assert len(list(publisher.folder.rglob("*"))) == before
