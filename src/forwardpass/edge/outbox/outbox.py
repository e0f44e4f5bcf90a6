"""The outbox as the agent uses it, on its event loop, which never waits for the disk.

One thread writes. What is put within a moment shares one write, that is on the disk when ``put`` returns. Where the
disk takes nothing, predictions go on: what is lost is counted and shown until entries are taken again, usage is held
in memory, and the next write tries again. Knows no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from forwardpass.edge.outbox.entry import DeviceClock, Entry, Kind, Needs, derived_id, new_id
from forwardpass.edge.outbox.privacy import MOST_BODY, Privacy
from forwardpass.edge.outbox.store import Store
from forwardpass.edge.outbox.tally import Tally
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.rates import GOLDEN
from forwardpass.errors import InvalidInput, NotReady
from forwardpass.types import Outcome, Record

T = TypeVar("T")
log = logging.getLogger(__name__)
MIB = 1024 * 1024
LINGER = 0.2  # seconds that a write waits for more to share it
RETRY = 5.0  # seconds until what is held in memory is tried again, after the disk took nothing
MOST_WAITING = 8 * MIB  # bytes that may wait for the disk in memory
_NEEDS = {Kind.USAGE: Needs.USAGE, Kind.RECORD: Needs.OUTPUTS, Kind.SAMPLE: Needs.ALL, Kind.ESCALATION: Needs.UNSURE}


class Outbox:
    """What waits to be told, in the file at ``path``; ``most_bytes`` bounds its entries, see ``policy``."""

    def __init__(
        self,
        path: Path,
        most_bytes: int = 64 * MIB,
        privacy: Privacy | None = None,
        clock: DeviceClock | None = None,
        linger: float = LINGER,
        retry: float = RETRY,
    ) -> None:
        self.privacy = privacy or Privacy()
        self.clock = clock or DeviceClock()
        self.error = ""  # why the disk does not do what it should
        self.added = asyncio.Event()  # something was written since whoever waits cleared it
        self._store = Store(path, most_bytes, self.clock, self.privacy.allowed)
        self._thread = ThreadPoolExecutor(1, "outbox")
        self._linger = linger
        self._retry = retry
        self._tally = Tally(self.clock)
        self._waiting: list[tuple[Entry, asyncio.Future[None] | None]] = []
        self._waiting_bytes = 0
        self._refused = False  # something was to be written, and was not
        self._lost: Counter[str] = Counter()  # by kind, since the start
        self._lost_before: Counter[str] = Counter()  # the same, when the error came up
        self._unwritten: Counter[str] = Counter()  # counts that the next write takes along
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        self._from_records = False  # usage is counted from records, not from predictions

    async def open(self) -> None:
        """Open the file, or say why it cannot be; writing begins either way."""
        with contextlib.suppress(NotReady):
            await self._on_disk(self._store.counts)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_forever())

    async def close(self) -> None:
        """Write what waits, and let go of the file."""
        self._closed = True
        self._wake.set()
        self._urgent.set()
        if self._writer is not None:
            await self._writer
        await self._write()
        with contextlib.suppress(NotReady):
            await self._on_disk(self._store.close)
        self._thread.shutdown(wait=False)

    # In

    def keep(self, prediction: Prediction) -> None:
        """Put what may leave of a prediction, without waiting: it is on the disk a moment later.

        Of one whose id is stable the entries have the same ids each time, so that they count once, whoever has them.
        """
        failed = prediction.error is not None
        if not self._from_records:
            self._count(prediction.model, prediction.version, failed, len(prediction.instances), prediction.seconds)
        try:
            entries = self.privacy.entries(prediction)
        except TypeError as error:
            self.lose(Kind.RECORD)
            log.warning("a prediction of %s is not kept: %s", prediction.model, error)
            return
        for kind, body, useful, needs in entries:
            if kind is Kind.SAMPLE and len(body) > MOST_BODY:
                self._unwritten["too_large_sample"] += 1
            elif self._waiting_bytes + len(body) > MOST_WAITING:
                self.lose(kind)
            else:
                name = derived_id(kind, prediction.id, failed=failed) if prediction.stable else new_id()
                self._add(self._entry(name, kind, body, useful, needs, None), None)

    def write(self, records: Sequence[Record]) -> None:
        """Count the usage of requests, which is exact: as a sink of the data plane's records.

        Predictions may be dropped before they are kept, where a device is too slow; requests are not. So from the
        first call on, ``keep`` counts no usage. ``seconds`` are those of the worker then.
        """
        self._from_records = True
        for record in records:
            if record.door != GOLDEN:  # nobody's use of the model
                failed = record.outcome is not Outcome.OK
                self._count(record.model, record.version, failed, record.rows, record.compute)

    def lose(self, kind: Kind) -> None:
        """An entry of this kind was not kept; counted."""
        self._lost[kind.value] += 1
        self._unwritten[f"lost_{kind}"] += 1

    async def put(
        self,
        kind: Kind,
        body: bytes,
        useful: float = 0.0,
        *,
        id: str | None = None,
        needs: Needs | None = None,
        most_age: float | None = None,
    ) -> str:
        """Put one entry, a JSON object; its id, once it is on the disk.

        With an ``id`` of one's own, putting it again while it is there changes nothing. Raises ``InvalidInput`` where
        the owner does not let such a thing leave, ``NotReady`` where the disk does not take it.
        """
        entry = self._entry(id or new_id(), kind, body, useful, _NEEDS[kind] if needs is None else needs, most_age)
        if entry.needs not in self.privacy.allowed:
            raise InvalidInput(f"{kind}: may not leave this device, whose privacy is {str(self.privacy.level)!r}")
        if self._closed:
            raise NotReady("the outbox is closed")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(entry, written)
        if kind is Kind.USAGE:
            self._urgent.set()
        await written
        return entry.id

    # Out

    async def next(self, kinds: Sequence[Kind], most_entries: int, most_bytes: int) -> list[Entry]:
        """The oldest entries of these kinds, in the order they were put. Raises ``NotReady``, as all of these."""
        return await self._on_disk(lambda: self._store.next(kinds, most_entries, most_bytes))

    async def remove(self, ids: Sequence[str], why: str = "uploaded") -> None:
        """They need not be told any more; counted as ``why``."""
        await self._change(lambda: self._store.remove(ids, why))

    async def remove_expired(self) -> None:
        """Escalations that nobody needs an answer to any more."""
        await self._on_disk(self._store.remove_expired)

    async def set_aside(self, id: str, reason: str) -> None:
        """It cannot be told; kept to be looked at while there is room."""
        log.warning("entry %s of the outbox is set aside: %s", id, reason)
        await self._change(lambda: self._store.set_aside(id, reason))

    async def replace(self, id: str, body: bytes) -> None:
        """Another body for an entry, which keeps its place."""
        await self._change(lambda: self._store.replace(id, body))

    async def counts(self) -> dict[str, Any]:
        """What waits, what became of the rest, what was lost since the start and why; for status and metrics."""
        try:
            counts = await self._on_disk(self._store.counts)
        except NotReady:
            counts = {}
        lost = self._lost_meanwhile()
        error = f"{self.error}; lost since: {lost}" if self.error and lost else self.error
        return counts | {"privacy": str(self.privacy.level), "lost": dict(self._lost), "error": error}

    async def reasons(self) -> list[tuple[str, str]]:
        """Id and reason of what was set aside, oldest first."""
        return await self._on_disk(self._store.reasons)

    # Inside

    def _entry(
        self, id: str, kind: Kind, body: bytes, useful: float, needs: Needs, most_age: float | None
    ) -> Entry:  # fmt: skip
        clock = self.clock
        return Entry(id, kind, body, clock.wall(), clock.up(), clock.boot, needs, useful, most_age)

    def _count(self, model: str, version: str, failed: bool, rows: int, seconds: float) -> None:
        if Needs.USAGE in self.privacy.allowed:
            self._tally.count(model, version, failed, rows, seconds)
            self._wake.set()

    def _add(self, entry: Entry, written: asyncio.Future[None] | None) -> None:
        self._waiting.append((entry, written))
        self._waiting_bytes += len(entry.body)
        self._wake.set()

    async def _write_forever(self) -> None:
        """Until closed; never cancelled, so that a write that is under way is always settled."""
        while not self._closed:
            await self._wake.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._urgent.wait(), self._linger)
            await self._write()

    async def _write(self) -> None:
        """Write all that waits, at once; where that fails, tell whoever waits, count the rest as lost."""
        self._wake.clear()
        self._urgent.clear()
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        usage, counts = self._tally.take(), self._unwritten
        self._unwritten = Counter()
        if not (waiting or usage or counts):
            return
        entries = [entry for entry, _ in waiting]
        try:
            await self._change(lambda: self._store.append(entries, usage, dict(counts)), enough=bool(entries))
        except NotReady as error:
            self._settle(waiting, usage, counts, error)
        else:
            self._settle(waiting, usage, counts, None)

    def _settle(
        self,
        waiting: list[tuple[Entry, asyncio.Future[None] | None]],
        usage: list[Any],
        counts: Counter[str],
        error: BaseException | None,
    ) -> None:
        if error is not None:
            self._tally.give_back(usage)
            self._unwritten += counts
            asyncio.get_running_loop().call_later(self._retry, self._wake.set)
        else:
            self.added.set()
        for entry, written in waiting:
            if written is None or written.done():
                if error is not None:
                    self.lose(entry.kind)
            elif error is not None:
                written.set_exception(NotReady(str(error)))
            else:
                written.set_result(None)

    async def _change(self, work: Callable[[], T], *, enough: bool = False) -> T:
        """As ``_on_disk``, for what writes. ``enough``: done, it shows that entries are taken again.

        A disk that is almost full can be read, and still takes a count, or what makes an entry smaller.
        """
        try:
            done = await self._on_disk(work)
        except NotReady:
            self._refused = True
            raise
        if enough or self._lost == self._lost_before:
            self._refused = False
            self._recover()
        return done

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Do it on the thread. Raises ``NotReady`` where the disk does not do it."""
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            if not self.error:
                log.error("the outbox cannot be used: %s; predictions go on, what is lost is counted", error)
                self._lost_before = self._lost.copy()
            self.error = str(error)
            raise NotReady(f"the outbox cannot be used: {error}") from None
        except RuntimeError as error:
            raise NotReady(f"the outbox is closed: {error}") from None
        if not self._refused:
            self._recover()
        return done

    def _lost_meanwhile(self) -> str:
        lost = self._lost - self._lost_before
        return ", ".join(f"{number} {kind}s" for kind, number in lost.items())

    def _recover(self) -> None:
        if self.error:
            log.warning("the outbox can be used again; lost meanwhile: %s", self._lost_meanwhile() or "nothing")
        self.error = ""
