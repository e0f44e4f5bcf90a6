"""Rows that a cascade was unsure of while nobody could be asked: they wait in the outbox and are asked about later.

Asked in order, at a bounded rate, and the answer is delivered under the id of the prediction it corrects. An answer
is written down before it is delivered, and its entry goes once it was: after a crash the same one is delivered again,
so under one id there is only ever one answer. Knows neither the model that is asked nor where the answer goes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from forwardpass.edge.outbox.correction import Escalation, message_of
from forwardpass.edge.outbox.entry import Entry, Kind, derived_id
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.outbox.privacy import encode
from forwardpass.edge.waits import pause
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, NotReady, TimedOut

log = logging.getLogger(__name__)
DAY = 86_400.0
MOST_AGE = DAY  # seconds after which nobody needs the answer
ROWS_PER_SECOND = 20.0  # asked at most: live escalations come first
MOST_FAILURES = 5  # of the model that is asked, at the same rows: what waits behind them must not wait for ever
MOST_TELLING = 100  # corrections under way at once; others wait in the outbox
FIRST_WAIT, MOST_WAIT = 1.0, 300.0  # seconds between tries
CLOSE = 5.0  # seconds for what was delivered to leave the outbox

Ask = Callable[[Escalation], Awaitable[list[Any]]]
Deliver = Callable[[dict[str, Any]], Awaitable[object]]


class Deferred:
    """``ask`` gives one answer per row, and raises while nobody can be asked; ``deliver`` is told the correction (see
    ``correction.message_of``), returns once it need not be told again, and may be told the same twice.
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
        self._failed = Counter[str]()  # how often the model failed at an entry
        self._late = set[str]()  # entries that it took too long for, since it last answered
        self._telling: dict[str, asyncio.Task[None]] = {}  # corrections under way, by their entry
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
                await self._pause(failures, there=isinstance(error, TimedOut))
                continue
            await (self._sleep(done / self._rate) if done else self._until_more())

    async def close(self) -> None:
        """After ``run`` was cancelled: what was delivered leaves the outbox, the rest is delivered again some time."""
        telling = list(self._telling.values())
        if telling:
            await asyncio.wait(telling, timeout=CLOSE)
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)

    async def ask_next(self) -> int:
        """Ask about the oldest that is still of use, and begin to deliver it; of how many rows, 0 where there is none.

        Raises ``ForwardpassError`` where it has to wait.
        """
        await self._make_room()
        await self._outbox.remove_expired()
        entry = await self._next()
        if entry is None:
            return 0
        try:
            escalation = msgspec.json.decode(entry.body, type=Escalation)
            if escalation.corrected is None:
                escalation = await self._answered(entry, escalation)
        except (msgspec.MsgspecError, InvalidInput) as error:
            await self._outbox.set_aside(entry.id, str(error))
            return 1
        self._telling[entry.id] = asyncio.create_task(self._tell(entry.id, escalation))
        return len(escalation.instances)

    async def _make_room(self) -> None:
        """Wait until one correction more may be under way. Raises where one could not be delivered."""
        if len(self._telling) >= MOST_TELLING:
            self.error = f"{len(self._telling)} corrections wait for the outputs"  # which say in the log why
            await asyncio.wait(self._telling.values(), return_when=asyncio.FIRST_COMPLETED)
        ended = [name for name, task in self._telling.items() if task.done()]
        for error in [self._telling.pop(name).exception() for name in ended]:
            if error is not None:
                raise error

    async def _next(self) -> Entry | None:
        """The oldest that is to be asked about; what the model took too long for gives way to the others."""
        found = await self._outbox.next((Kind.ESCALATION,), 1, 1, {*self._telling, *self._late})
        if not found and self._late:
            self._late.clear()
            found = await self._outbox.next((Kind.ESCALATION,), 1, 1, self._telling)
        return found[0] if found else None

    async def _answered(self, entry: Entry, escalation: Escalation) -> Escalation:
        """With the answer, which is on the disk now. Raises ``InvalidInput`` where these rows never get one."""
        try:
            answers = await self._ask(escalation)
            if len(answers) != len(escalation.instances):
                raise BackendFailed(f"asked about {len(escalation.instances)} rows, got {len(answers)} answers")
        except (BackendFailed, TimedOut) as error:
            self._failed_at(entry, error)
            raise
        self._failed.update(self._late)  # it answers others
        self._late.clear()
        del self._failed[entry.id]
        body = encode({**msgspec.structs.asdict(escalation), "corrected": answers})
        await self._outbox.replace(entry.id, body)
        return msgspec.json.decode(body, type=Escalation)  # as it will be read again, should it have to be

    def _failed_at(self, entry: Entry, error: ForwardpassError) -> None:
        """Raises ``InvalidInput`` the last time. Taking too long counts only once others were answered meanwhile: a
        model that answers nobody is away, whatever these rows are.
        """
        times = self._failed[entry.id] + 1
        if times >= MOST_FAILURES:
            del self._failed[entry.id]
            raise InvalidInput(f"the model failed at it {times} times: {error.message}") from None
        if isinstance(error, TimedOut):
            self._late.add(entry.id)
        else:
            self._failed[entry.id] = times

    async def _tell(self, name: str, escalation: Escalation) -> None:
        """Deliver it, for as long as it is of use: an output that is away does not keep its place for ever."""
        why = "expired"
        try:
            async with asyncio.timeout(self._most_age) as limit:
                await self._deliver(message_of(escalation))
                why = "answered"
        except OSError as error:
            if not limit.expired():
                raise NotReady(f"the answer for {escalation.id} could not be delivered: {error}") from None
        await self._outbox.remove([name], why)

    async def _pause(self, failures: int, *, there: bool) -> None:
        """Longer after each failure, but where nobody is ``there`` no longer than until somebody may be again."""
        seconds = min(MOST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 20)) * (0.5 + self._draw() / 2)
        await (self._sleep(seconds) if there else pause(self._sleep(seconds), self._contact))

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
