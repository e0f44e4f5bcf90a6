"""Keeps a device up to date: looks now and then, has what it found tried beside what runs, and remembers.

    look ── nothing new ──▶ wait
      └─ a slot with the next version ──▶ switch: kept ──▶ active from now on
                                             └─ taken back ──▶ remembered, not tried again

What runs is never touched before the next one has proved itself. Knows no models: ``switch`` is handed in.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from forwardpass.edge.home import Home
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.updates.client import Client, read_root, require_library, require_url
from forwardpass.edge.updates.failures import Failure, Failures
from forwardpass.edge.updates.preparation import Preparation, Progress, failures_file
from forwardpass.edge.updates.release import Release, release_path
from forwardpass.errors import ForwardpassError, InvalidModel

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT = 10.0  # seconds after a first error; twice that after the next, up to the time between looks
MOST_TRIALS = 3  # of a release during which the agent died


class Switch(Protocol):
    """Tries a slot beside what runs. Returns "" once it is kept, else why it was taken back."""

    def __call__(self, slot: Slot) -> Awaitable[str]: ...


class Updater:
    """``every`` is the seconds between two looks. Raises ``InvalidSettings`` where updates cannot work at all."""

    def __init__(
        self,
        home: Home,
        slots: Slots,
        url: str,
        switch: Switch,
        channel: str = "stable",
        every: float = 3600.0,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        require_library()
        require_url(url)
        read_root(home.updates)
        self._home, self._slots, self._url = home, slots, url
        self._switch, self._channel, self._every = switch, channel, every
        self._clock, self._draw = clock, draw
        self._failures = Failures(failures_file(home))
        self._wanted = asyncio.Event()
        self._running: Slot | None = None  # what was kept, until it is the active slot
        self._progress = Progress()
        self._state = "waiting"
        self._checked: float | None = None
        self._contact: float | None = None
        self._error = ""
        self._errors = 0  # in a row, without a byte received between them

    def check_now(self) -> None:
        """Look now, or as soon as the look under way has ended."""
        self._wanted.set()

    def status(self) -> dict[str, Any]:
        """For people and metrics. Times in seconds since the epoch, None where it never happened."""
        failed = self._failures.all()
        return {
            "url": self._url,
            "channel": self._channel,
            "state": self._state,
            "last_check": self._checked,
            "last_contact": self._contact,
            "last_error": self._error or None,
            "release": self._progress.version or None,
            "received_bytes": self._progress.received,
            "total_bytes": self._progress.total,
            "failed": {"version": failed[-1].version, "why": failed[-1].why, "at": failed[-1].at} if failed else None,
        }

    async def run(self) -> None:
        """Until cancelled: the first look at once."""
        while True:
            self._wanted.clear()
            await self.check()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), self.wait())

    async def check(self) -> bool:
        """One look, and the switch where there is something new; whether another version runs now.

        Never raises for what went wrong: that is in the status.
        """
        self._error = ""
        try:
            switched = await self._look()
            self._errors = 0
            return switched
        except (ForwardpassError, OSError) as error:
            self._error = error.message if isinstance(error, ForwardpassError) else self._of_disk(error)
            self._errors = 0 if self._progress.received else self._errors + 1
            log.warning("%s", self._error)
            return False
        finally:
            self._state = "waiting"
            self._checked = self._clock()
            self._contact = self._checked if self._progress.contact else self._contact

    async def _look(self) -> bool:
        self._settle()
        active = self._slots.active()
        if active is None:
            raise InvalidModel("nothing is installed that could be updated; install a first bundle with --bundle")
        path = release_path(self._channel, active.manifest.target, active.manifest.model)
        preparation = Preparation(self._home, self._slots)
        self._progress, self._state = preparation.progress, "downloading"
        client = Client(self._url, self._home.updates, clock=self._clock)
        try:
            found = await _in_thread(lambda: preparation.run(client, path, active))
        finally:
            client.stop()
        return found is not None and await self._try(*found)

    async def _try(self, release: Release, slot: Slot) -> bool:
        self._state = "trying"
        if self._slots.begin_trial(slot) > MOST_TRIALS:
            return self._taken_back(release, slot, f"the agent died {MOST_TRIALS} times while it was tried")
        try:
            why = await self._switch(slot)
        except asyncio.CancelledError:  # a stop is not the release's fault
            self._slots.end_trial()
            raise
        if why:
            return self._taken_back(release, slot, why)
        self._running = slot
        self._settle()
        log.info("%s runs now", release)
        return True

    def _settle(self) -> None:
        """Make the slot that runs the active one; where the disk was too full for that, before the other is emptied."""
        if self._running is not None:
            self._slots.activate(self._running)
            self._running = None

    def _of_disk(self, error: OSError) -> str:
        file = error.filename or self._home.folder
        return f"the update cannot be kept: {file}: {error.strerror or error}; make room or mend the disk"

    def _taken_back(self, release: Release, slot: Slot, why: str) -> bool:
        log.error("%s was taken back: %s", release, why)
        self._failures.add(Failure(slot.digest, release.version, why, self._clock()))
        self._slots.end_trial()
        self._error = f"{release} was taken back: {why}"
        return False

    def wait(self) -> float:
        """Seconds to the next look; a quarter more or less, so that not all devices ask at once."""
        usual = self._every if not self._error else min(self._every, FIRST_WAIT * 2.0 ** min(self._errors, 30))
        return usual * (0.75 + 0.5 * self._draw())


async def _in_thread(call: Callable[[], T]) -> T:
    """What a call gives, made in a thread that nobody waits for when the agent ends: it may hang on the network."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[], None]) -> None:
        if not future.cancelled():
            settle()

    def run() -> None:
        settle: Callable[[], None]
        try:
            settle = functools.partial(future.set_result, call())
        except BaseException as error:  # noqa: BLE001 - it goes on to whoever waits
            settle = functools.partial(future.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, settle)

    threading.Thread(target=run, name="update", daemon=True).start()
    return await future
