"""Keeps a device up to date: looks now and then, and has what it found tried beside what runs.

    look ── nothing new, or what was taken back before ──▶ wait
      └─ a slot with the next version ──▶ a trial

What runs is never touched before the next one has proved itself (``trials``). Knows no models.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from forwardpass.edge import durable
from forwardpass.edge.failures import Failures
from forwardpass.edge.home import Home
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.thread import in_thread
from forwardpass.edge.trials import Trials
from forwardpass.edge.updates.client import Client, read_root, require_library
from forwardpass.edge.updates.preparation import Preparation, Progress
from forwardpass.edge.updates.release import Release, release_path
from forwardpass.errors import ForwardpassError, InvalidModel

log = logging.getLogger(__name__)

FIRST_WAIT = 10.0  # seconds after a first error; twice that after the next, up to the time between looks


class Updater:
    """``every`` is the seconds between two looks. Raises ``InvalidSettings`` where updates cannot work at all."""

    def __init__(
        self,
        home: Home,
        slots: Slots,
        trials: Trials,
        url: str,
        channel: str = "stable",
        every: float = 3600.0,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        require_library()
        read_root(home.updates)
        self._home, self._slots, self._trials = home, slots, trials
        self._url, self._channel, self._every = url, channel, every
        self._clock, self._draw = clock, draw
        self._wanted = asyncio.Event()
        self._progress = Progress()
        self._state = "waiting"
        self._checked: float | None = None
        self._contact: float | None = None
        self._error = ""
        self._errors = 0  # in a row, without a byte received between them

    def check_now(self) -> None:
        """Look now, or as soon as the look under way has ended; what was taken back before may be tried again."""
        Failures(self._home.failures).forget()
        self._wanted.set()

    def status(self) -> dict[str, Any]:
        """For people and metrics. Times in seconds since the epoch, None where it never happened."""
        failed = Failures(self._home.failures).all()
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
            self._error = _told(error)
            self._errors = 0 if self._progress.received else self._errors + 1
            log.warning("%s", self._error)
            return False
        finally:
            self._state = "waiting"
            self._checked = self._clock()
            self._contact = self._checked if self._progress.contact else self._contact

    async def _look(self) -> bool:
        active = self._slots.active()
        if active is None:
            raise InvalidModel("nothing is installed that could be updated; install a first bundle with --bundle")
        path = release_path(self._channel, active.manifest.target, active.manifest.model)
        preparation = Preparation(self._home, self._slots)
        self._progress, self._state = preparation.progress, "downloading"
        client = Client(self._url, self._home.updates, clock=self._clock)
        try:
            found = await in_thread(lambda: preparation.run(client, path, active))
        finally:
            client.stop()
        return found is not None and await self._try(*found)

    async def _try(self, release: Release, slot: Slot) -> bool:
        self._state = "trying"
        why = await self._trials.run(slot)
        if why:
            self._error = f"{release} was taken back: {why}"
        return not why

    def wait(self) -> float:
        """Seconds to the next look; a quarter more or less, so that not all devices ask at once."""
        usual = self._every if not self._error else min(self._every, FIRST_WAIT * 2.0 ** min(self._errors, 30))
        return usual * (0.75 + 0.5 * self._draw())


def _told(error: ForwardpassError | OSError) -> str:
    if isinstance(error, ForwardpassError):
        return error.message
    return f"the update cannot be kept: {durable.refusal(error)}"
