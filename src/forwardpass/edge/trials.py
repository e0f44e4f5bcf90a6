"""Trials of what was put into the free slot: begun, counted and remembered, whoever brought it.

    begun ── switch ── kept ──▶ the active slot from now on
                └─ taken back, or the agent died too often ──▶ remembered (``failures``)

Knows no models, no bundles and no network: ``switch`` is handed in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

from forwardpass.edge import durable
from forwardpass.edge.failures import Failure, Failures
from forwardpass.edge.home import Home
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.versions import version_order
from forwardpass.edge.waits import waits
from forwardpass.errors import InvalidSettings

log = logging.getLogger(__name__)

MOST_TRIALS = 3  # during which the agent died

Switch = Callable[[Slot], Awaitable[str]]


class Trials:
    """``switch`` tries a slot beside what runs; it gives "" once that is kept, else why it was taken back.

    It raises ``InvalidSettings`` where the device lacks what the slot needs.
    """

    def __init__(
        self,
        home: Home,
        slots: Slots,
        switch: Switch,
        clock: Callable[[], float] = time.time,
        pauses: Callable[[], Iterator[float]] = waits,
    ) -> None:
        self.problem = ""  # what keeps the outcome of a trial from being known at the next start
        self._slots, self._switch = slots, switch
        self._failures = Failures(home.failures)
        self._clock, self._pauses = clock, pauses

    async def run(self, slot: Slot) -> str:
        """As ``switch``; kept is only what is also the active slot, and so never the one that is emptied.

        Returns once the disk knows of it. Raises ``OSError`` where it does not take that the slot is tried.
        """
        unfit = False
        try:
            why = await self._tried(slot)
        except InvalidSettings as error:
            why, unfit = error.message, True
        if why:
            log.error("%s was taken back: %s", slot, why)
            failure = Failure(slot.digest, slot.manifest.version, why, self._clock(), unfit)
            await self._written(lambda: self._remember(failure), f"{slot} was taken back, and may be tried again")
        else:
            behind = f"{slot} runs, but the next start begins with the one before"
            await self._written(lambda: self._slots.activate(slot), behind)
            log.info("%s runs now", slot)
            kept = version_order(slot.manifest.version)
            self._failures.forget(lambda failure: version_order(failure.version) <= kept)
        return why

    def _remember(self, failure: Failure) -> None:
        self._failures.add(failure)
        self._slots.end_trial()

    async def _tried(self, slot: Slot) -> str:
        if self._slots.begin_trial(slot) > MOST_TRIALS:
            return f"the agent died {MOST_TRIALS} times while it was tried"
        try:
            return await self._switch(slot)
        except asyncio.CancelledError:  # a stop is not its fault
            log.warning(
                "%s was still tried when the agent stopped, and is not kept: the next start runs what ran before; "
                "it is tried again when --bundle names it again, or when an update to it is found",
                slot,
            )
            with suppress(OSError):
                self._slots.end_trial()
            raise

    async def _written(self, write: Callable[[], None], problem: str) -> None:
        """Until the disk takes it: whoever comes next empties the slot that is not active, and tries what is there."""
        for pause in self._pauses():
            try:
                write()
                break
            except OSError as error:
                self.problem = f"{problem}: {durable.refusal(error)}"
                log.error("%s", self.problem)
            await asyncio.sleep(pause)
        self.problem = ""
