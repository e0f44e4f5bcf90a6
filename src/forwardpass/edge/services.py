"""What runs beside the predictions, each as a ``Service`` of the agent: the outbox, and updates.

Glue: knows the agent on one side and the outbox or the updater on the other, and neither knows the other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from forwardpass.edge.agent import Agent
from forwardpass.edge.deferral import Deferral
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.outbox.upload import Uploader
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.slots import Slot, Slots

if TYPE_CHECKING:
    from forwardpass.edge.updates.updater import Updater

log = logging.getLogger(__name__)


class OutboxService:
    """Keeps what may leave, and uploads it where there is a cloud."""

    def __init__(self, outbox: Outbox, uploader: Uploader | None, deferral: Deferral | None) -> None:
        self._outbox = outbox
        self._uploader = uploader
        self._deferral = deferral

    async def follow(self, prediction: Prediction) -> None:
        self._outbox.keep(prediction)

    async def run(self) -> None:
        await self._outbox.open()
        async with asyncio.TaskGroup() as tasks:  # where one ends unforeseen, none goes on by itself
            for item in (self._uploader, self._deferral):
                if item is not None:
                    tasks.create_task(item.run())

    async def status(self) -> dict[str, Any]:
        uploader, deferral = self._uploader, self._deferral
        return {
            "name": "outbox",
            **await self._outbox.counts(),
            "upload_error": "" if uploader is None else uploader.error,
            "last_contact": None if uploader is None else uploader.last_contact,
            "deferred_error": "" if deferral is None else deferral.error,
        }

    async def close(self) -> None:
        await self._outbox.close()


class UpdateService:
    """First a bundle that was handed over at the start, where one was; then updates, where some are looked for."""

    def __init__(self, agent: Agent, slots: Slots, installed: Slot | None, updater: Updater | None) -> None:
        self._agent = agent
        self._slots = slots
        self._installed = installed
        self._updater = updater
        self._error = ""

    async def run(self) -> None:
        installed, self._installed = self._installed, None  # once: an update may follow it
        if installed is not None:
            self._error = await self._agent.deployment.switch(installed)
            if self._error:
                log.error("%s is not used: %s", installed, self._error)
            else:
                self._error = self._activated(installed)
        if self._updater is not None:
            await self._updater.run()

    def _activated(self, slot: Slot) -> str:
        """Make it what the next start begins with; "", or why that cannot be: updates are looked for either way."""
        try:
            self._slots.activate(slot)
        except OSError as error:
            why = f"{slot} runs, but the next start begins with the one before: {error.strerror or error}"
            log.error("%s", why)
            return why
        log.info("%s runs now", slot)
        return ""

    async def status(self) -> dict[str, Any]:
        status = {} if self._updater is None else self._updater.status()
        return {"name": "updates", "bundle_error": self._error, **status}

    async def close(self) -> None:
        pass
