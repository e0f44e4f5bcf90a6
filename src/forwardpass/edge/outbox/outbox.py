"""The outbox as the agent uses it, on its event loop, which never waits for the disk.

One thread writes. What is put within a moment shares one write, that is on the disk when ``put`` returns. Where the
disk takes nothing, predictions go on: what is lost is counted and shown until entries are taken again, usage is held
in memory, and the next write tries again. Knows no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from forwardpass.edge.outbox.entry import DeviceClock, Entry, Kind, Needs, derived_id
from forwardpass.edge.outbox.privacy import MOST_BODY, Privacy
from forwardpass.edge.outbox.store import Store
from forwardpass.edge.outbox.tally import Tally
from forwardpass.edge.outbox.trouble import Trouble
from forwardpass.edge.prediction import Prediction, new_id
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
        self.added = asyncio.Event()  # something was written since whoever waits cleared it
        self._store = Store(path, most_bytes, self.clock, self.privacy.allowed)
        self._thread = ThreadPoolExecutor(1, "outbox")
        self._linger = linger
        self._retry = retry
        self._tally = Tally(self.clock)
        self._waiting: list[tuple[Entry, asyncio.Future[None] | None]] = []
        self._waiting_bytes = 0
        self._trouble = Trouble()
        self._unwritten: Counter[str] = Counter()  # counts that the next write takes along
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

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
        try:
            entries = self.privacy.entries(prediction)
        except TypeError as error:
            self.lose(Kind.RECORD)
            log.warning("a prediction of %s is not kept: %s", prediction.model, error)
            return
        for kind, body, useful, needs in entries:
            if kind is Kind.SAMPLE and len(body) > MOST_BODY:
                self._unwritten["too_large_sample"] += 1
            elif self._is_full(body):
                self.lose(kind)
            else:
                name = derived_id(kind, prediction.id, failed=failed) if prediction.stable else new_id()
                self._add(self._entry(name, kind, body, useful, needs, None), None)

    def write(self, records: Sequence[Record]) -> None:
        """Count the usage of requests, which is exact: as a sink of the data plane's records.

        Predictions may be dropped before they are kept, where a device is too slow; requests are not.
        """
        if Needs.USAGE not in self.privacy.allowed:
            return
        for record in records:
            if record.door != GOLDEN:  # nobody's use of the model
                failed = record.outcome is not Outcome.OK
                self._tally.count(record.model, record.version, failed, record.rows, record.compute)
        self._wake.set()

    def lose(self, kind: Kind) -> None:
        """An entry of this kind was not kept; counted."""
        self._trouble.lose(kind)
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
        the owner does not let such a thing leave, ``NotReady`` where the disk does not take it, or not as fast.
        """
        entry = self._entry(id or new_id(), kind, body, useful, _NEEDS[kind] if needs is None else needs, most_age)
        if entry.needs not in self.privacy.allowed:
            raise InvalidInput(f"{kind}: may not leave this device, whose privacy is {str(self.privacy.level)!r}")
        if self._closed:
            raise NotReady("the outbox is closed")
        if self._is_full(body):
            raise NotReady(f"{self._waiting_bytes} bytes wait for the disk already; try again later")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(entry, written)
        if kind is Kind.USAGE:
            self._urgent.set()
        await written
        return entry.id

    # Out

    async def next(
        self, kinds: Sequence[Kind], most_entries: int, most_bytes: int, without: Collection[str] = ()
    ) -> list[Entry]:
        """The oldest entries of these kinds but those ids, in the order they were put.

        Raises ``NotReady``, as all of these.
        """
        return await self._on_disk(lambda: self._store.next(kinds, most_entries, most_bytes, without))

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
        trouble = self._trouble
        return counts | {"privacy": str(self.privacy.level), "lost": dict(trouble.lost), "error": trouble.text()}

    async def reasons(self) -> list[tuple[str, str]]:
        """Id and reason of what was set aside, oldest first."""
        return await self._on_disk(self._store.reasons)

    # Inside

    def _entry(
        self, id: str, kind: Kind, body: bytes, useful: float, needs: Needs, most_age: float | None
    ) -> Entry:  # fmt: skip
        clock = self.clock
        return Entry(id, kind, body, clock.wall(), clock.up(), clock.boot, needs, useful, most_age)

    def _is_full(self, body: bytes) -> bool:
        """Whether too much waits for the disk already; one entry may always wait, however large."""
        return bool(self._waiting) and self._waiting_bytes + len(body) > MOST_WAITING

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
            await self._change(lambda: self._store.append(entries, usage, dict(counts)), entries=bool(entries))
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

    async def _change(self, work: Callable[[], T], *, entries: bool = False) -> T:
        """As ``_on_disk``, for what writes; ``entries``: some are put.

        A disk that is almost full can be read, and still takes a count, or what makes an entry smaller.
        """
        try:
            done = await self._on_disk(work)
        except NotReady:
            self._trouble.refused()
            raise
        self._trouble.written(entries=entries)
        return done

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Do it on the thread. Raises ``NotReady`` where the disk does not do it, whatever the reason."""
        try:
            working = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError:
            raise NotReady("the outbox is closed") from None
        try:
            done = await working
        except Exception as error:  # also what nobody foresaw: whoever waits is told, and the next write is tried
            raise NotReady(f"the outbox cannot be used: {self._trouble.failed(error)}") from error
        self._trouble.read()
        return done
