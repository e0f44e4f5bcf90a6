"""What runs beside the predictions, each as a ``Service`` of the agent: the outbox, and updates.

Glue: knows the agent on one side and the outbox or the updater on the other, and neither knows the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forwardpass.edge.agent import Agent
from forwardpass.edge.outbox.deferred import Deferred
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.outbox.upload import Uploader
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.predictor import answers_of, ask, instances_of
from forwardpass.edge.slots import Slot, Slots
from forwardpass.errors import ForwardpassError, NotReady
from forwardpass.server.served import ServedModel
from forwardpass.types import Columns

if TYPE_CHECKING:
    from forwardpass.edge.updates.updater import Updater

log = logging.getLogger(__name__)

_OF_THE_CASCADE = ("member", "confidence", "provisional")  # outputs that its members do not have


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
        running = [item.run() for item in (self._uploader, self._deferral) if item is not None]
        await asyncio.gather(*running)

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


class Deferral:
    """Rows that a cascade could not ask about: kept, asked about later, and told under the same id.

    ``defer`` is what a cascade calls, row by row. A request without an id is not deferred: nobody could
    tell what the later answer is about.
    """

    def __init__(self, agent: Agent, outbox: Outbox) -> None:
        self._agent = agent
        self._deferred = Deferred(outbox, self._ask, self._deliver)
        self._rows: dict[str, list[tuple[Columns, Columns]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def error(self) -> str:
        return self._deferred.error

    async def run(self) -> None:
        await self._deferred.run()

    def defer(self, id: str, columns: Columns, answers: Columns) -> None:
        """Neither waits nor raises; the rows of one request come in one turn of the loop."""
        if not id:
            return
        if id not in self._rows:
            asyncio.get_running_loop().call_soon(self._put, id)
        self._rows.setdefault(id, []).append((columns, answers))

    def _put(self, id: str) -> None:
        task = asyncio.ensure_future(self._keep(id, self._rows.pop(id)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, id: str, rows: Sequence[tuple[Columns, Columns]]) -> None:
        cascade, _ = self._members()
        instances = [item for columns, _ in rows for item in instances_of(columns, cascade)]
        given = [item for _, answers in rows for item in answers_of(_shared(answers, answers), True)]
        try:
            await self._deferred.put(id, instances, given)
        except ForwardpassError as error:  # the owner lets no inputs leave, or the disk is full
            log.warning("rows of %s are not asked about later: %s", id, error.message)

    async def _ask(self, instances: list[Any]) -> list[Any]:
        cascade, last = self._members()
        outputs = await ask(self._agent.dataplane, last, instances, "deferred")
        return answers_of(_shared(outputs, [spec.name for spec in cascade.signature.outputs]), True)

    async def _deliver(self, id: str, answers: list[Any], changed: bool) -> None:
        deployed = self._agent.deployment.running
        model = deployed.main.name if deployed is not None else ""
        message = {"id": id, "model": model, "predictions": answers, "corrected": True, "changed": changed}
        for output in self._agent.outputs:
            await output.send(message)

    def _members(self) -> tuple[ServedModel, ServedModel]:
        """The cascade and its last member. Raises ``NotReady`` where what runs now is none."""
        deployed = self._agent.deployment.running
        if deployed is None or not deployed.config.cascade:
            raise NotReady("the model that runs now is no cascade")
        return deployed.main, self._agent.dataplane.model(deployed.config.cascade[-1])


def _shared(columns: Columns, names: Any) -> Columns:
    """The outputs that a cascade and its members both have."""
    return {name: columns[name] for name in names if name in columns and name not in _OF_THE_CASCADE}


class UpdateService:
    """First a bundle that was handed over at the start, where one was; then updates, where some are looked for."""

    def __init__(self, agent: Agent, slots: Slots, installed: Slot | None, updater: Updater | None) -> None:
        self._agent = agent
        self._slots = slots
        self._installed = installed
        self._updater = updater
        self._error = ""

    async def run(self) -> None:
        if self._installed is not None:
            self._error = await self._agent.deployment.switch(self._installed)
            if self._error:
                log.error("%s is not used: %s", self._installed, self._error)
            else:
                self._error = self._activated(self._installed)
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
