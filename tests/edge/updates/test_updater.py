"""Updates from the first look to the switch, over a link that is cut, and on a disk that is full."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.edge.bundles import pack
from tests.edge.power import Disk, PowerLoss
from tests.edge.updates.conftest import DAY, SHARED, Publisher, install, trust_root
from tests.edge.updates.serving import Link

from forwardpass.edge.failures import Failures
from forwardpass.edge.home import Home
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.trials import MOST_TRIALS, Trials
from forwardpass.edge.updates import preparation
from forwardpass.edge.updates.updater import FIRST_WAIT, Updater
from forwardpass.errors import InvalidSettings


class Device:
    """A device that runs version 1, and whose trials end as ``verdict`` says."""

    def __init__(self, home: Home, url: str) -> None:
        self.home = home
        self.slots = Slots(home)
        self.url = url
        self.tried: list[str] = []
        self.verdict: Callable[[Slot], Awaitable[str]] = good

    def updater(self, url: str = "") -> Updater:
        async def switch(slot: Slot) -> str:
            self.tried.append(slot.manifest.version)
            return await self.verdict(slot)

        trials = Trials(self.home, self.slots, switch)
        return Updater(self.home, self.slots, trials, url or self.url, every=1000.0, draw=lambda: 0.5)

    def look(self) -> tuple[bool, Updater]:
        updater = self.updater()
        return asyncio.run(updater.check()), updater

    def error(self) -> str:
        """The error of a look that changed nothing."""
        switched, updater = self.look()
        assert not switched
        return str(updater.status()["last_error"])

    @property
    def runs(self) -> str:
        slot = self.slots.start()
        assert slot is not None
        return slot.manifest.version


async def good(slot: Slot) -> str:
    return ""


async def slow(slot: Slot) -> str:
    return "golden row 3 differs"


@pytest.fixture
def device(publisher: Publisher, link: Link, home: Home) -> Device:
    bundle = publisher.pack("1")
    publisher.signers.create()
    publisher.repository().publish(bundle, "stable", 30 * DAY)
    trust_root(home, publisher)
    install(home, bundle)
    return Device(home, link.url)


def test_nothing_new(device: Device, link: Link) -> None:
    switched, updater = device.look()
    assert not switched
    status = updater.status()
    assert (status["state"], status["last_error"], status["failed"]) == ("waiting", None, None)
    assert status["last_check"] == status["last_contact"] is not None
    assert link.chunks() == []


def test_a_new_version_is_tried_and_kept(device: Device, publisher: Publisher) -> None:
    seen = []

    async def look(slot: Slot) -> str:
        seen.append((device.runs, (slot.models / "motor/labels.txt").read_bytes()))
        return ""

    device.verdict = look
    publisher.publish("2")
    assert device.look()[0]
    assert seen == [("1", b"ok")], "the old one is active while the new one is tried"
    assert device.runs == "2"
    assert json.loads(device.home.state.read_bytes())["trial"] is None
    assert [path.name for path in device.home.updates.glob("*.part")] == []
    assert not device.look()[0]


def test_only_what_the_device_lacks_is_fetched(device: Device, publisher: Publisher, link: Link) -> None:
    publisher.publish("2")
    _, updater = device.look()
    status = updater.status()
    assert status["received_bytes"] == status["total_bytes"]
    assert 300_000 < status["total_bytes"] < 300_000 + len(SHARED) // 100
    assert len(link.chunks()) == len(set(link.chunks())) < 5


def test_a_version_is_fetched_once_though_it_is_packed_twice(device: Device, publisher: Publisher, link: Link) -> None:
    """What was taken back lies in the free slot still."""
    device.verdict = slow
    publisher.publish("2")
    device.look()
    before = len(link.chunks())
    device.verdict = good
    publisher.publish("3", weights=(device.home.slots / "b/models/motor/model.onnx").read_bytes())
    assert device.look()[0]
    assert len(link.chunks()) - before <= 2, "the manifest and its signature alone"


def test_a_download_that_is_cut_anywhere_goes_on(device: Device, publisher: Publisher, link: Link) -> None:
    published = publisher.publish("2", weights=os.urandom(1_000_000))
    trusted = sum(path.stat().st_size for path in (publisher.folder / "metadata").iterdir())
    link.left = trusted + 50_000
    looks = 0
    while not device.look()[0]:
        assert device.runs == "1"
        looks += 1
        assert looks < 50
        link.left = 400_000
    assert looks > 2
    assert device.runs == "2"
    fetched = [path for path in link.chunks() if link.chunks().count(path) > 2]
    assert fetched == [], "what arrived whole is not asked for again"
    assert published.release.version == "2"


def test_a_device_keeps_no_more_than_one_download(device: Device, publisher: Publisher, link: Link) -> None:
    parts = []
    for version, left in (("3", 500_000), ("4", 500_000), ("2", None)):
        publisher.publish(version, weights=os.urandom(1_000_000), force=True)
        device.verdict = slow
        link.left = left
        device.look()
        parts.append([path.stat().st_size > 1_000_000 for path in device.home.updates.glob("*.part")])
    assert parts == [[True], [True], []]


def test_what_is_left_of_a_download_goes_where_the_next_release_is_refused(
    device: Device, publisher: Publisher, link: Link
) -> None:
    publisher.publish("2", weights=os.urandom(1_000_000))
    link.left = 400_000
    device.look()
    assert len(list(device.home.updates.glob("*.part"))) == 1
    link.left = None
    publisher.publish("0", force=True)
    assert "older than 1, which runs" in device.error()
    assert list(device.home.updates.glob("*.part")) == []


def test_what_the_library_left_half_written_goes_at_the_next_look(device: Device) -> None:
    device.look()
    left = device.home.updates / "metadata/tmpq3x7"
    left.write_bytes(b"half")
    device.look()
    assert not left.exists()


def test_progress_makes_the_next_look_come_soon(device: Device, publisher: Publisher, link: Link) -> None:
    updater = device.updater()
    link.left = 0
    for _ in range(4):
        asyncio.run(updater.check())
    assert updater.wait() == FIRST_WAIT * 16
    publisher.publish("2", weights=os.urandom(1_000_000))
    link.left = 400_000
    asyncio.run(updater.check())
    assert updater.status()["received_bytes"] > 0
    assert updater.wait() == FIRST_WAIT
    link.left = None
    asyncio.run(updater.check())
    assert updater.wait() == 1000.0


def test_an_older_release_is_refused(device: Device, publisher: Publisher) -> None:
    publisher.publish("10")
    assert device.look()[0]
    publisher.publish("9", force=True)
    assert "motor 9 for linux-x86_64 is older than 10, which runs" in device.error()
    assert device.tried == ["10"]
    assert device.runs == "10"


def test_what_was_taken_back_is_not_tried_again(device: Device, publisher: Publisher, link: Link) -> None:
    device.verdict = slow
    publisher.publish("2")
    assert "taken back: golden row 3 differs" in device.error()
    asked = len(link.chunks())
    assert "was tried and taken back: golden row 3 differs" in device.error()
    assert device.tried == ["2"]
    assert len(link.chunks()) == asked
    assert device.runs == "1"
    assert device.updater().status()["failed"]["why"] == "golden row 3 differs"

    device.verdict = good
    publisher.publish("3")
    assert device.look()[0]
    assert device.tried == ["2", "3"]
    assert device.updater().status()["failed"] is None


def test_what_was_taken_back_is_tried_again_when_a_person_asks(device: Device, publisher: Publisher) -> None:
    device.verdict = slow
    publisher.publish("2")
    device.look()
    assert "3 differs; `forwardpass agent check` has it tried again" in device.error()
    device.verdict = good
    updater = device.updater()
    updater.check_now()
    assert asyncio.run(updater.check())
    assert device.tried == ["2", "2"]


def test_the_same_version_with_other_content_is_tried(device: Device, publisher: Publisher) -> None:
    device.verdict = slow
    publisher.publish("2")
    device.look()
    device.verdict = good
    publisher.publish("2", weights=b"better", force=True)
    assert device.look()[0]


def test_a_release_during_which_the_agent_dies_is_given_up(device: Device, publisher: Publisher) -> None:
    class Died(BaseException):
        pass

    async def die(slot: Slot) -> str:
        raise Died

    device.verdict = die
    publisher.publish("2")
    for _ in range(MOST_TRIALS):
        with pytest.raises(Died):
            device.look()
        assert device.runs == "1"
    assert f"the agent died {MOST_TRIALS} times" in device.error()
    assert device.tried == ["2"] * MOST_TRIALS
    assert "was tried and taken back" in device.error()


def test_a_stop_is_not_held_against_a_release(device: Device, publisher: Publisher) -> None:
    async def stopped_while_trying() -> None:
        trying = asyncio.Event()

        async def hang(slot: Slot) -> str:
            trying.set()
            await asyncio.Event().wait()
            return ""

        device.verdict = hang
        task = asyncio.create_task(device.updater().run())
        await trying.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    publisher.publish("2")
    for _ in range(MOST_TRIALS + 1):
        asyncio.run(stopped_while_trying())
    device.verdict = good
    assert device.look()[0]


def test_a_look_when_asked_for(device: Device, publisher: Publisher) -> None:
    async def asked() -> None:
        updater = device.updater()
        task = asyncio.create_task(updater.run())
        while updater.status()["last_check"] is None:
            await asyncio.sleep(0.005)
        publisher.publish("2")
        updater.check_now()
        while device.runs != "2":
            assert not task.done()
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asked())


def test_a_stop_does_not_wait_for_the_network(device: Device, link: Link) -> None:
    async def stop_while_looking() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        release = threading.Event()

        def hold(content: bytes) -> bytes:
            loop.call_soon_threadsafe(asked.set)
            release.wait(60.0)
            return content

        link.changes["timestamp.json"] = hold
        task = asyncio.create_task(device.updater().run())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()

    asyncio.run(stop_while_looking())


def test_a_release_for_other_devices_is_refused(device: Device, publisher: Publisher) -> None:
    release = publisher.publish("2").release
    slot = device.slots.active()
    assert slot is not None
    failures = Failures(device.home.updates / "none.json")
    other = msgspec.structs.replace(release, target="jetson")
    assert "this device runs motor for linux-x86_64" in preparation.refuse(other, slot, failures)
    assert preparation.refuse(release, slot, failures) == ""


def test_a_release_that_needs_what_is_not_installed_is_refused(device: Device, publisher: Publisher) -> None:
    publisher.signers.create()
    needy = pack(
        publisher.root / "needy.bundle", publisher.bundle_key, "2", {"a": b"b"}, runtime={"no_such_module": ""}
    )
    publisher.repository().publish(needy, "stable", DAY, False)
    assert device.error() == "update refused: no_such_module is not installed"
    assert device.runs == "1"
    assert not device.tried


def test_a_bundle_by_an_unknown_key_is_refused(device: Device, publisher: Publisher) -> None:
    (device.home.keys / "publisher.pub").unlink()
    publisher.publish("2")
    assert "not trusted" in device.error()
    assert device.tried == []
    assert device.runs == "1"


def test_no_room(device: Device, publisher: Publisher, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.publish("2")
    monkeypatch.setattr(preparation, "SPARE", 1 << 60)
    assert "no room for motor 2" in device.error()
    assert link.chunks() == []
    monkeypatch.undo()
    assert device.look()[0]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses(device: Device, publisher: Publisher) -> None:
    publisher.publish("2")
    with largest_file(500_000):
        assert "File too large" in device.error()
    assert device.runs == "1"
    assert device.look()[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(device: Device, publisher: Publisher, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "SPARE", 1_000_000)
    small = Home(small_disk / "home")
    small.create()
    (small.keys / "p.pub").write_bytes((device.home.keys / "publisher.pub").read_bytes())
    trust_root(small, publisher)
    install(small, publisher.pack("1"))
    full = Device(small, device.url)
    publisher.publish("2")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2_000_000))
    assert "no room" in full.error()
    monkeypatch.setattr(preparation.Preparation, "_require_room", lambda *_: None)
    filler.write_bytes(bytes(1_800_000))
    assert "No space left" in full.error()
    assert list(small.updates.glob("*.part")) == [], "what is left of the disk is not kept from others"
    assert full.runs == "1"
    filler.unlink()
    assert full.look()[0]
    assert full.runs == "2"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("torn", [False, True], ids=["killed", "power lost"])
def test_an_update_that_is_cut_off_anywhere(
    device: Device, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    """After every operation on the disk: what ran before runs, and the next look ends with the new version."""
    publisher.publish("2")
    kept, folder = tmp_path / "kept", device.home.folder
    shutil.copytree(folder, kept)
    stopped = 0
    while True:
        disk = Disk(folder, stopped)
        with monkeypatch.context() as patch:
            disk.watch(patch)
            try:
                device.look()
            except PowerLoss:
                pass
            else:
                break
        if torn:
            disk.tear()
        ran = device.runs
        assert ran in ("1", "2"), f"after {stopped} operations: {disk.done[-1:]}"
        assert device.look()[0] == (ran == "1"), f"after {stopped} operations: {disk.done[-1:]}"
        assert device.runs == "2"
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        stopped += 1
    assert stopped > 50


def test_nothing_installed(publisher: Publisher, link: Link, home: Home) -> None:
    publisher.publish("1")
    trust_root(home, publisher)
    assert "--bundle" in Device(home, link.url).error()


def test_what_cannot_work_is_told_at_the_start(home: Home) -> None:
    with pytest.raises(InvalidSettings, match=r"root\.json"):
        Device(home, "http://127.0.0.1:1").updater()
