"""What is in the free slot is tried, kept or taken back, and remembered; on disks that refuse, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.edge.bundles import make_key, pack, trust

from forwardpass.edge.bundle import unpack
from forwardpass.edge.failures import Failure, Failures
from forwardpass.edge.home import Home
from forwardpass.edge.install import Installed
from forwardpass.edge.services import UpdateService
from forwardpass.edge.signing import read_public_keys
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.trials import MOST_TRIALS, Trials
from forwardpass.errors import InvalidSettings


class Device:
    """One that runs version 1, and has 2 in its other slot; how a trial ends is said by ``verdict``."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self.slots = Slots(self.home)
        key = make_key(folder)
        trust(self.home.keys, key)
        self.one, self.two = (self._put(pack(folder / f"{v}.bundle", key, v, {"a": v.encode()})) for v in "12")
        self.tried = 0
        self.verdict: Callable[[], Awaitable[str]] = self.good
        self.trials = Trials(self.home, self.slots, self._switch, pauses=self.pauses)
        self.full = self.home.state.with_name("state.json.tmp")  # where this is a folder, the state cannot be written
        self.paused: list[tuple[str, str]] = []  # the problem, and the slot that the next start begins with

    def _put(self, bundle: Path) -> Slot:
        folder = self.slots.free()
        unpack(bundle, folder, read_public_keys(self.home.keys))
        slot = self.slots.read(folder)
        if self.slots.active() is None:
            self.slots.activate(slot)
        return slot

    async def _switch(self, slot: Slot) -> str:
        self.tried += 1
        return await self.verdict()

    async def good(self) -> str:
        return ""

    async def bad(self) -> str:
        return "its worker died once"

    async def unfit(self) -> str:
        raise InvalidSettings("actions[0] needs a broker")

    async def fills_the_disk(self) -> str:
        self.full.mkdir()
        return ""

    def pauses(self) -> Iterator[float]:
        """After the second there is room again."""
        for number in (1, 2):
            self.paused.append((self.trials.problem, self.active))
            if number == 2:
                self.full.rmdir()
            yield 0.0

    @property
    def active(self) -> str:
        slot = Slots(self.home).active()
        assert slot is not None
        return slot.manifest.version

    def run(self) -> str:
        return asyncio.run(self.trials.run(self.two))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


class Next:
    """Of an ``Updater`` what its service needs: it empties the free slot, as the first part of an update does."""

    def __init__(self, slots: Slots) -> None:
        self.emptied: list[Path] = []
        self._slots = slots

    async def run(self) -> None:
        self.emptied.append(self._slots.free())

    def status(self) -> dict[str, Any]:
        return {}


def service(device: Device) -> tuple[UpdateService, Next]:
    """One that was handed version 2 by ``--bundle``."""
    updater = Next(device.slots)
    return UpdateService(device.trials, Installed(device.one, beside=device.two), cast(Any, updater)), updater


def test_what_is_kept_is_active(device: Device) -> None:
    assert device.run() == ""
    assert device.active == "2"
    assert Slots(device.home).begin_trial(device.two) == 1, "nothing is left of the trial"


def test_what_runs_is_never_emptied_where_the_disk_was_full_when_it_was_kept(device: Device) -> None:
    device.verdict = device.fills_the_disk
    made, updater = service(device)
    asyncio.run(made.run())
    problem, started = device.paused[1]
    assert "2 (slot b) runs, but the next start begins with the one before" in problem
    assert f"{device.full}: Is a directory; make room" in problem
    assert started == "1"
    assert (device.active, device.trials.problem) == ("2", "")
    assert updater.emptied == [device.one.folder]
    assert (device.two.folder / "manifest.json").exists()


def test_what_was_taken_back_is_remembered(device: Device) -> None:
    device.verdict = device.bad
    made, updater = service(device)
    asyncio.run(made.run())
    status = asyncio.run(made.status())
    assert "motor 2 (slot b) is not used: its worker died once" in status["bundle_error"]
    failure = Failures(device.home.failures).find(device.two.digest)
    assert failure is not None
    assert (failure.version, failure.why) == ("2", "its worker died once")
    assert device.active == "1"
    assert updater.emptied == [device.two.folder]


def test_what_was_taken_back_is_remembered_once_the_disk_takes_it(device: Device) -> None:
    async def bad_on_a_full_disk() -> str:
        device.full = device.home.failures.with_name("failed.json.tmp")
        device.full.mkdir()
        return "its worker died once"

    device.verdict = bad_on_a_full_disk
    assert device.run() == "its worker died once"
    problem, _ = device.paused[1]
    assert f"motor 2 (slot b) was taken back, and may be tried again: {device.full}: Is a directory" in problem
    assert device.trials.problem == ""
    assert Failures(device.home.failures).find(device.two.digest) is not None
    assert Slots(device.home).proven(device.two), "the trial has ended"
    assert device.tried == 1


def test_what_the_device_lacked_is_remembered_as_such(device: Device) -> None:
    device.verdict = device.unfit
    assert device.run() == "actions[0] needs a broker"
    failure = Failures(device.home.failures).find(device.two.digest)
    assert failure is not None
    assert failure.unfit
    assert device.active == "1"


def test_what_is_kept_ends_the_failures_of_versions_that_are_not_newer(device: Device) -> None:
    failures = Failures(device.home.failures)
    for version in ("1.5", "2", "10"):
        failures.add(Failure(f"other {version}", version, "it crashed", 0.0))
    device.run()
    assert [failure.version for failure in failures.all()] == ["10"]


def test_one_during_which_the_agent_dies_is_given_up(device: Device) -> None:
    class Died(BaseException):
        pass

    async def die() -> str:
        raise Died

    device.verdict = die
    for _ in range(MOST_TRIALS):
        with pytest.raises(Died):
            device.run()
    assert device.run() == f"the agent died {MOST_TRIALS} times while it was tried"
    assert device.tried == MOST_TRIALS
    assert Failures(device.home.failures).find(device.two.digest) is not None


@pytest.mark.parametrize("full", [False, True])
def test_a_stop_is_a_stop_and_not_held_against_it(device: Device, full: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def stopped() -> None:
        trying = asyncio.Event()

        async def hang() -> str:
            if full:
                device.full.mkdir()
            trying.set()
            await asyncio.Event().wait()
            return ""

        device.verdict = hang
        task = asyncio.create_task(device.trials.run(device.two))
        await trying.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    assert Slots(device.home).proven(device.two) is not full, "where the disk takes it, the trial has ended"
    assert "motor 2 (slot b) was still tried when the agent stopped, and is not kept" in caplog.text


def test_a_trial_that_cannot_be_counted_is_not_begun_and_updates_are_looked_for(device: Device) -> None:
    device.full.mkdir()
    made, updater = service(device)
    asyncio.run(made.run())
    status = asyncio.run(made.status())
    assert f"motor 2 (slot b) is not used: {device.full}: Is a directory" in status["bundle_error"]
    assert device.tried == 0
    assert updater.emptied == [device.two.folder]
