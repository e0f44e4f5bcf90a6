"""Rows that a cascade was unsure of while nobody could be asked: they wait in the outbox and are asked about later.

Asked in order, at a bounded rate, and the answer is delivered under the id of the prediction it corrects. An answer
is written down before it is delivered, so that after a crash the same one is delivered again: under one id there is
only ever one answer. Knows neither the model that is asked nor where the answer goes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from forwardpass.edge.outbox.correction import Escalation, message_of
from forwardpass.edge.outbox.entry import Entry, Kind, derived_id
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.outbox.privacy import encode
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, NotReady

log = logging.getLogger(__name__)
DAY = 86_400.0
MOST_AGE = DAY  # seconds after which nobody needs the answer
ROWS_PER_SECOND = 20.0  # asked at most: live escalations come first
MOST_FAILURES = 5  # of the model that is asked, at the same rows: what waits behind them must not wait for ever
FIRST_WAIT, MOST_WAIT = 1.0, 300.0  # seconds between tries

Ask = Callable[[Escalation], Awaitable[list[Any]]]
Deliver = Callable[[dict[str, Any]], Awaitable[object]]


class Deferred:
    """``ask`` gives one answer per row, and raises while nobody can be asked; ``deliver`` is told the correction (see
    ``correction.message_of``), and may be told the same twice.
    """

    def __init__(
        self,
        outbox: Outbox,
        ask: Ask,
        deliver: Deliver,
        *,
        rate: float = ROWS_PER_SECOND,
        most_age: float = MOST_AGE,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.error = ""  # why the last try failed; empty where it did not
        self._outbox = outbox
        self._ask, self._deliver = ask, deliver
        self._rate, self._most_age = rate, most_age
        self._sleep, self._draw = sleep, draw
        self._failed: tuple[str, int] = ("", 0)  # what was asked about last, and how often the model failed at it
        self._contact = asyncio.Event()

    def contact(self) -> None:
        """Somebody may be there again: what waits after a failure is tried now."""
        self._contact.set()

    async def put(self, escalation: Escalation, *, stable: bool = False) -> None:
        """Ask about these rows later; they are on the disk when it returns.

        Others under the same id are others, unless it is ``stable``: then they are these, asked about again. Raises
        ``InvalidInput`` where the owner lets no inputs leave, ``NotReady`` where the disk takes nothing.
        """
        name = derived_id(Kind.ESCALATION, escalation.id) if stable else None
        body = encode(msgspec.structs.asdict(escalation))
        await self._outbox.put(Kind.ESCALATION, body, id=name, most_age=self._most_age)

    async def run(self) -> None:
        """Until cancelled. What goes wrong is kept in ``error`` and tried again."""
        failures = 0
        while True:
            self._outbox.added.clear()
            self._contact.clear()
            try:
                done = await self.ask_next()
                failures, self.error = 0, ""
            except ForwardpassError as error:
                failures += 1
                self._say(error.message)
                await self._pause(failures)
                continue
            await (self._sleep(done / self._rate) if done else self._until_more())

    async def ask_next(self) -> int:
        """Ask about the oldest that is still of use, and deliver it; of how many rows, 0 where there is none.

        Raises ``ForwardpassError`` where it has to wait.
        """
        await self._outbox.remove_expired()
        found = await self._outbox.next((Kind.ESCALATION,), 1, 1)
        if not found:
            return 0
        entry = found[0]
        try:
            escalation = msgspec.json.decode(entry.body, type=Escalation)
            if escalation.corrected is None:
                escalation = await self._answered(entry, escalation)
        except (msgspec.MsgspecError, InvalidInput) as error:
            await self._outbox.set_aside(entry.id, str(error))
            return 1
        await self._tell(escalation)
        await self._outbox.remove([entry.id], "answered")
        return len(escalation.instances)

    async def _answered(self, entry: Entry, escalation: Escalation) -> Escalation:
        """With the answer, which is on the disk now. Raises ``InvalidInput`` where these rows never get one."""
        try:
            answers = await self._ask(escalation)
        except BackendFailed as error:
            times = self._failed[1] + 1 if self._failed[0] == entry.id else 1
            self._failed = (entry.id, times)
            if times >= MOST_FAILURES:
                raise InvalidInput(f"the model failed at it {times} times: {error.message}") from None
            raise
        if len(answers) != len(escalation.instances):
            raise BackendFailed(f"asked about {len(escalation.instances)} rows, got {len(answers)} answers")
        body = encode({**msgspec.structs.asdict(escalation), "corrected": answers})
        await self._outbox.replace(entry.id, body)
        return msgspec.json.decode(body, type=Escalation)  # as it will be read again, should it have to be

    async def _tell(self, escalation: Escalation) -> None:
        try:
            await self._deliver(message_of(escalation))
        except OSError as error:
            raise NotReady(f"the answer for {escalation.id} could not be delivered: {error}") from None

    async def _pause(self, failures: int) -> None:
        """Longer after each failure, but no longer than until somebody may be there again."""
        seconds = min(MOST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 20)) * (0.5 + self._draw() / 2)
        either = (asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._contact.wait()))
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in either:
                waiting.cancel()

    async def _until_more(self) -> None:
        """Until something was put, or for a while."""
        try:
            await asyncio.wait_for(self._outbox.added.wait(), MOST_WAIT)
        except TimeoutError:
            return

    def _say(self, message: str) -> None:
        if message != self.error:
            log.warning("deferred escalation: %s; it waits, and is tried again", message)
        self.error = message
