"""A model that lies elsewhere, for a program that serves nothing: columns in, answers out, one call after the other.

The same queue, balance, tries and limits as where it is served; they run in a thread of their own, so that servers are
looked at while the program does something else. Knows no door.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from forwardpass.engine.messages import ReadyHead
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidModel, NotReady
from forwardpass.gateway.compose import create_composer
from forwardpass.registry import ModelFiles, ModelLocation
from forwardpass.scheduler import Scheduler
from forwardpass.server.asking import Asked, ask
from forwardpass.server.composed import Composition
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel, State, clock
from forwardpass.types import Columns, Signature

T = TypeVar("T")
AT_ONCE = 256  # rows that may wait
LOOK = 0.005  # seconds between looks at whether a server has answered


class RemoteClient:
    """Not for several threads at a time. ``close`` ends it."""

    def __init__(self, files: ModelFiles) -> None:
        """Raises ``InvalidModel`` for what ``model.yaml`` says, ``NotReady`` where no server can be asked."""
        self._dataplane = DataPlane(Recorder(()))
        self._served = ServedModel(ModelLocation(files.name, files.version, files.folder))
        self._served.limits = replace(files.config.limits, max_queue_size=AT_ONCE, max_queue_bytes=2**62)
        composition = Composition(self._served, files, self._dataplane, self._opened, self._waits, self._answers)
        self._model = create_composer()(composition)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway", daemon=True)
        self._thread.start()
        try:
            self._await(self._open())
        except BaseException:
            self.close()
            raise

    @property
    def signature(self) -> Signature:
        return self._served.signature

    def answer(self, columns: Columns) -> tuple[Columns, dict[int, ForwardpassError]]:
        """Outputs of the rows that are answered, in order, and by its place why a row is refused.

        Each row is a request of its own, and has the time that one has, as if it came when those before it are
        answered. Raises what else goes wrong: it is nothing about a row.
        """
        rows = len(next(iter(columns.values())))
        failures: dict[int, ForwardpassError] = {}
        parts: list[Columns] = []
        for start in range(0, rows, AT_ONCE):
            cut = [
                {n: a[row : row + 1] for n, a in columns.items()} for row in range(start, min(rows, start + AT_ONCE))
            ]
            for place, got in enumerate(self._await(self._ask(cut)), start):
                if isinstance(got, InvalidInput):
                    failures[place] = got
                else:
                    parts.append(got)
        return {name: np.concatenate([part[name] for part in parts]) for name in (parts or [{}])[0]}, failures

    def close(self) -> None:
        self._await(self._model.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # In the thread

    async def _open(self) -> None:
        self._model.start()
        while self._served.state is State.LOADING:
            await asyncio.sleep(LOOK)
        if not self._served.ready:
            raise NotReady(f"model {self._served.name!r} lies elsewhere and cannot be asked: {self._served.reason}")
        if not self._served.signature.batched:
            raise InvalidModel(f"model {self._served.name!r} is not batched: it does not take several rows at once")

    async def _ask(self, rows: list[Columns]) -> list[Columns | InvalidInput]:
        timeout = self._served.limits.timeout
        patience = clock() + timeout
        while not self._served.ready and clock() < patience:
            await asyncio.sleep(LOOK)
        deadline = clock() + timeout * len(rows)
        asked = [ask(self._dataplane, self._served, Asked(row, deadline)) for row in rows]
        found: list[Columns | InvalidInput] = []
        for got in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(got, BaseException) and not isinstance(got, InvalidInput):
                raise got
            found.append(got)
        return found

    def _opened(self, ready: ReadyHead, joined: bool) -> Scheduler:
        return self._dataplane.open(self._served, ready, joined=joined)

    def _waits(self, reason: str, away: bool) -> None:
        self._served.state, self._served.reason = State.UNAVAILABLE, reason

    def _answers(self) -> None:
        self._served.state = State.READY

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
