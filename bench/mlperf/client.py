"""The system under test as LoadGen sees it: samples in, over HTTP to the server, and "complete" out.

LoadGen's thread hands samples over; an event loop in a thread of its own sends them over kept
connections and checks the shape of every answer. Whatever happens, every sample is completed once,
for LoadGen waits for ever; what went wrong is counted in ``errors``. Knows no scenario.
"""

from __future__ import annotations

import array
import asyncio
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mlperf_loadgen
import uvloop

from bench.mlperf.samples import BadAnswer, Samples
from forwardpass.loadtest import HttpTarget
from forwardpass.loadtest.target import Connection

CONNECTIONS = 64
CLOSED = "the run ended before the answer"
Part = tuple[list[int], list[int]]  # LoadGen's ids of some samples, and which samples they are


class Client:
    """Sends at most ``rows`` samples as one request. ``keeps``: LoadGen is given the answers, for its log."""

    def __init__(self, samples: Samples, rows: int = 1, *, keeps: bool = False) -> None:
        self.errors: Counter[str] = Counter()
        self.requests = 0
        self._samples = samples
        self._rows = rows
        self._keeps = keeps
        self._closed = False
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._inbox: deque[Part] = deque()  # from LoadGen's thread
        self._free: list[Connection] = []
        self._under_way: dict[Connection, Part] = {}

    # LoadGen's thread

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """One query of LoadGen."""
        if self._closed:  # the run was given up, which LoadGen cannot be told
            self._fail((ids, indices), CLOSED)
            return
        for start in range(0, len(ids), self._rows):
            stop = start + self._rows
            self._inbox.append((ids[start:stop], indices[start:stop]))
        self._loop.call_soon_threadsafe(self._send)

    def flush(self) -> None:
        """Nothing is held back, so there is nothing to do."""

    # The event loop

    @contextmanager
    def connected(self, port: int) -> Iterator[None]:
        """Connections to the server, and the thread that serves them."""
        target = HttpTarget("v2-binary", (), url=f"http://127.0.0.1:{port}")
        thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._connect(target), self._loop).result(timeout=30)
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _connect(self, target: HttpTarget) -> None:
        for _ in range(CONNECTIONS):
            self._free.append(await target.connect(self))

    async def _close(self) -> None:
        self._closed = True
        for connection in [*self._free, *self._under_way]:
            connection.close()
        self._free.clear()
        for part in [*self._under_way.values(), *self._inbox]:
            self._fail(part, CLOSED)
        self._under_way.clear()
        self._inbox.clear()
        await asyncio.sleep(0)  # the connections' own last callbacks

    def _send(self) -> None:
        while self._inbox and self._free:
            part = self._inbox.popleft()
            connection = self._free.pop()
            self._under_way[connection] = part
            self.requests += 1
            connection.send(self._samples.request(part[1]))
        if not self._free and not self._under_way:
            while self._inbox:
                self._fail(self._inbox.popleft(), "no connection is left")

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        ids, _ = part = self._under_way.pop(connection)
        try:
            if status != 200:
                raise BadAnswer(f"status {status}")
            self._complete(ids, self._samples.answer(head, body, len(ids)))
        except BadAnswer as reason:
            self._fail(part, str(reason))
        if connection.closing:
            connection.close()
        else:
            self._free.append(connection)
        self._send()

    def broken(self, connection: Connection, kind: str) -> None:
        self._fail(self._under_way.pop(connection), kind)
        self._send()

    def lost(self, connection: Connection) -> None:
        if connection in self._free:
            self._free.remove(connection)
        self._send()

    def _fail(self, part: Part, why: str) -> None:
        self.errors[why] += len(part[0])
        _tell(part[0])

    def _complete(self, ids: list[int], rows: Sequence[bytes]) -> None:
        if not self._keeps:
            _tell(ids)
            return
        kept = [array.array("B", row) for row in rows]  # LoadGen copies them before the call returns
        places = [row.buffer_info() for row in kept]
        mlperf_loadgen.QuerySamplesComplete(
            [mlperf_loadgen.QuerySampleResponse(one, *place) for one, place in zip(ids, places, strict=True)]
        )


def _tell(ids: list[int]) -> None:
    mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(one, 0, 0) for one in ids])
