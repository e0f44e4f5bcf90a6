"""Trials of what was put into the free slot: begun, counted and remembered, whoever brought it.

    begun ── switch ── kept ──▶ the active slot from now on
                └─ taken back, or the agent died too often ──▶ remembered, not tried again

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
from forwardpass.edge.waits import waits

log = logging.getLogger(__name__)

MOST_TRIALS = 3  # during which the agent died

Switch = Callable[[Slot], Awaitable[str]]


class Trials:
    """``switch`` tries a slot beside what runs; it gives "" once that is kept, else why it was taken back."""

    def __init__(
        self,
        home: Home,
        slots: Slots,
        switch: Switch,
        clock: Callable[[], float] = time.time,
        pauses: Callable[[], Iterator[float]] = waits,
    ) -> None:
        self.problem = ""  # what keeps the version that runs from being the one that the next start begins with
        self._slots, self._switch = slots, switch
        self._failures = Failures(home.failures)
        self._clock, self._pauses = clock, pauses

    async def run(self, slot: Slot) -> str:
        """As ``switch``; kept is only what is also the active slot, and so never the one that is emptied.

        Raises ``OSError`` where the disk does not take that it is tried, or was taken back.
        """
        if self._slots.begin_trial(slot) > MOST_TRIALS:
            why = f"the agent died {MOST_TRIALS} times while it was tried"
        else:
            why = await self._tried(slot)
        if why:
            log.error("%s was taken back: %s", slot, why)
            self._failures.add(Failure(slot.digest, slot.manifest.version, why, self._clock()))
            self._slots.end_trial()
        else:
            await self._activate(slot)
            log.info("%s runs now", slot)
        return why

    async def _tried(self, slot: Slot) -> str:
        try:
            return await self._switch(slot)
        except asyncio.CancelledError:  # a stop is not its fault
            with suppress(OSError):
                self._slots.end_trial()
            raise

    async def _activate(self, slot: Slot) -> None:
        """Until the disk takes it: whoever comes next empties the slot that is not active."""
        for pause in self._pauses():
            try:
                self._slots.activate(slot)
                break
            except OSError as error:
                why = durable.refusal(error)
                self.problem = f"{slot} runs, but the next start begins with the one before: {why}"
                log.error("%s", self.problem)
            await asyncio.sleep(pause)
        self.problem = ""
