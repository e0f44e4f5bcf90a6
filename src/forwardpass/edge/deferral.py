"""Rows that a cascade could not ask about: kept in the outbox, asked about later, and told under the same id.

Glue: knows models and outputs on one side and ``outbox.deferred`` on the other. Knows no cascade from inside: which
rows they are is handed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

from forwardpass.edge.outbox.correction import Escalation
from forwardpass.edge.outbox.deferred import Deferred
from forwardpass.edge.outbox.entry import Kind
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.prediction import new_id
from forwardpass.edge.predictor import FromInput, answers_of, ask, instances_of
from forwardpass.edge.rates import INSIDE
from forwardpass.errors import ForwardpassError, InvalidInput, NotFound
from forwardpass.server.composed import PutOff
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel
from forwardpass.types import Columns

log = logging.getLogger(__name__)

DOOR = "deferred"  # of what is asked later
_OF_THE_CASCADE = ("member", "confidence", "provisional")  # outputs that its members do not have


class Deferral:
    """What a cascade hands its rows to (``defer``), and what asks about them (``run``)."""

    def __init__(self, dataplane: DataPlane, outputs: Sequence[Output], outbox: Outbox) -> None:
        self._dataplane = dataplane
        self._outputs = outputs
        self._outbox = outbox
        self._deferred = Deferred(outbox, self._ask, self._deliver)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def error(self) -> str:
        return self._deferred.error

    def contact(self) -> None:
        """Somebody may be there again: what waits is asked about now."""
        self._deferred.contact()

    async def run(self) -> None:
        await self._deferred.run()

    async def close(self) -> None:
        """After ``run`` was cancelled and the outputs were closed, before the outbox is."""
        await self._deferred.close()

    def defer(self, put_off: PutOff) -> None:
        """Neither waits nor raises. A request that has no id gets one, by which its caller will know the answer."""
        request = put_off.request
        if request.door in INSIDE or not self._outbox.privacy.escalations:
            return
        request.id = request.id or new_id()
        task = asyncio.ensure_future(self._keep(put_off))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, put_off: PutOff) -> None:
        request, served = put_off.request, put_off.served
        source, stable = (request.source, request.stable) if isinstance(request, FromInput) else (request.door, False)
        instances = instances_of(put_off.columns, served)
        answers = answers_of(_shared(put_off.answers, put_off.answers), True)
        rows = put_off.rows.tolist()
        try:
            escalation = Escalation(request.id, source, served.name, served.version, rows, instances, answers)
            await self._deferred.put(escalation, stable=stable)
        except ForwardpassError as error:  # the disk is full
            self._outbox.lose(Kind.ESCALATION)
            log.warning("%d rows of %s are not asked about later: %s", len(rows), request.id, error.message)

    async def _ask(self, escalation: Escalation) -> list[Any]:
        cascade, last = self._models(escalation.model)
        outputs = await ask(self._dataplane, last, escalation.instances, DOOR)
        return answers_of(_shared(outputs, [spec.name for spec in cascade.signature.outputs]), True)

    async def _deliver(self, message: dict[str, Any]) -> None:
        await asyncio.gather(*(output.deliver(message) for output in self._outputs))

    def _models(self, name: str) -> tuple[ServedModel, ServedModel]:
        """The cascade of that name and its last member. Raises ``InvalidInput`` where there is none any more."""
        try:
            cascade = self._dataplane.model(name)
        except NotFound as error:
            raise InvalidInput(error.message) from None
        if cascade.composed is None or not cascade.composed.members:
            raise InvalidInput(f"model {name!r} is no cascade any more, so that nobody can be asked")
        return cascade, self._dataplane.model(cascade.composed.members[-1])


def _shared(columns: Columns, names: Collection[str]) -> Columns:
    """The outputs that a cascade and its members both have."""
    return {name: columns[name] for name in names if name in columns and name not in _OF_THE_CASCADE}
