"""What runs beside the predictions, each as a ``Service`` of the agent: the outbox, and updates.

Glue: knows the outbox, the trials and the updater; none of them knows another, or the agent.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from forwardpass.edge import durable
from forwardpass.edge.deferral import Deferral
from forwardpass.edge.install import Installed
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.outbox.upload import Uploader
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.slots import Slot
from forwardpass.edge.trials import Trials

if TYPE_CHECKING:
    from forwardpass.edge.updates.updater import Updater

log = logging.getLogger(__name__)


class OutboxService:
    """Keeps what may leave, and uploads it where there is a cloud."""

    def __init__(self, outbox: Outbox, uploader: Uploader | None, deferral: Deferral | None) -> None:
        self._outbox = outbox
        self._uploader = uploader
        self._deferral = deferral

    def contact(self) -> None:
        """A server was reached, or a model can be asked again: what waits goes now."""
        for item in (self._uploader, self._deferral):
            if item is not None:
                item.contact()

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
        if self._deferral is not None:
            await self._deferral.close()
        await self._outbox.close()


class UpdateService:
    """First a bundle that was handed over at the start, where one was; then updates, where some are looked for."""

    def __init__(self, trials: Trials, installed: Installed, updater: Updater | None) -> None:
        self._trials = trials
        self._bundle = installed.beside
        self._error = installed.error
        self._updater = updater

    async def run(self) -> None:
        bundle, self._bundle = self._bundle, None  # once: an update may follow it
        if bundle is not None:
            self._error = await self._tried(bundle)
        if self._updater is not None:
            await self._updater.run()

    async def _tried(self, bundle: Slot) -> str:
        try:
            why = await self._trials.run(bundle)
        except OSError as error:
            why = durable.refusal(error)
            log.error("%s is not used: %s", bundle, why)
        return why and f"{bundle} is not used: {why}"

    async def status(self) -> dict[str, Any]:
        status = {} if self._updater is None else self._updater.status()
        return {"name": "updates", "error": self._trials.problem, "bundle_error": self._error, **status}

    async def close(self) -> None:
        pass
