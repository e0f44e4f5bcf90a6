"""Finds the quickest way to run each model that was never tuned on this machine, once, while nobody asks anything.

A process of the lowest priority measures, one model after the other; the first request that comes meanwhile ends
it, and it begins again after the next quiet time. What is found is used from the next load on. Knows how the
process is started and nothing of what it does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from forwardpass.errors import ForwardpassError
from forwardpass.registry import read_model
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel, clock
from forwardpass.types import Record

log = logging.getLogger(__name__)

LOOK = 0.5  # seconds between two looks
ATTEMPTS = 5  # after so many quiet times that were too short, a model stays as it is until the next start
LOWEST = 19  # what the kernel calls nice


class Tuning:
    """A sink of records, by which it knows when a request ended. ``command`` measures a model and remembers."""

    def __init__(self, command: Callable[[Path], Sequence[str]], quiet: float) -> None:
        self._command = command
        self._quiet = quiet
        self._latest = clock()

    def write(self, records: Sequence[Record]) -> None:
        if records:
            self._latest = clock()

    async def run(self, dataplane: DataPlane) -> None:
        """All models that are served now. Cancelled, it leaves no process behind."""
        self._latest = clock()
        for served in dataplane.all():
            for _ in range(ATTEMPTS):
                await self._until_quiet()
                if not _wants(served) or await self._tune(served):
                    break

    async def _until_quiet(self) -> None:
        while (rest := self._latest + self._quiet - clock()) > 0:
            await asyncio.sleep(rest)

    async def _tune(self, served: ServedModel) -> bool:
        """Whether it ran to its end; not, where a request came."""
        begun = clock()
        process = await asyncio.create_subprocess_exec(
            *self._command(served.location.path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST)
        ended = asyncio.ensure_future(process.communicate())
        try:
            while not ended.done() and self._latest < begun:
                await asyncio.wait({ended}, timeout=LOOK)
        finally:
            if not ended.done():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await ended
        if self._latest >= begun:
            return False
        _tell(served, process.returncode, ended.result()[1])
        return True


def _wants(served: ServedModel) -> bool:
    try:
        return served.ready and served.composed is None and read_model(served.location).tuned is None
    except ForwardpassError:
        return False


def _tell(served: ServedModel, status: int | None, said: bytes) -> None:
    if status == 0:
        log.info("%s was tuned for this machine; the next load of it uses what was found", served.name)
    else:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        log.info("%s could not be tuned, and runs as it is: %s", served.name, last or f"exit status {status}")
