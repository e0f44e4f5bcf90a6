"""Starts workers without a template, and hears when they end.

For devices: all but the first are interpreters of their own, slower to start than a fork from a
template (``nursery``), but nothing holds memory between starts. ``Replicas`` takes either. Knows no
messages but the order to be a certain worker.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

import msgspec

from forwardpass.engine.blank import Blank, Child, start_blank
from forwardpass.engine.link import Link
from forwardpass.engine.starter import Born
from forwardpass.engine.template import Fork
from forwardpass.errors import NotReady
from forwardpass.registry import ModelLocation

GRACE = 2.0  # seconds that workers may take to end after ``close``


class Spawner:
    """A ``Starter``. ``blank`` is a worker that was started before, and becomes the first."""

    def __init__(self, log_level: str = "info", blank: Blank | None = None) -> None:
        self._log_level = log_level
        self._blank = blank
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[int, Child] = {}
        self._heard: dict[int, int] = {}  # process -> the descriptor that says when it ends

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def fork(
        self,
        model: ModelLocation,
        threads: int,
        on_end: Callable[[int], None],
        *,
        measures: bool = False,
        fronts: int = 1,
    ) -> Born:
        order = Fork(model.name, model.version, str(model.path.resolve()), threads, self._log_level, measures)
        with ExitStack() as always, ExitStack() as on_error:
            links, fds = [], []
            try:
                blank, self._blank = self._blank or start_blank(), None
                always.callback(blank.orders.close)
                on_error.callback(blank.end)
                for _ in range(fronts):
                    link, theirs = Link.pair()
                    on_error.callback(link.close)
                    always.callback(theirs.socket.close)
                    links.append(link)
                    fds += theirs.fds
                socket.send_fds(blank.orders, [msgspec.msgpack.encode(order)], fds)
            except OSError as error:
                raise NotReady(f"no worker could be started: {error}") from None
            on_error.pop_all()
        self._watch(blank.process, on_end)
        return Born(blank.process.pid, links)

    def close(self) -> None:
        """Their links are closed, so they end; those that do not are killed."""
        if self._blank is not None:
            self._blank.end()
        for fd in self._heard.values():
            assert self._loop is not None
            self._loop.remove_reader(fd)
            os.close(fd)
        for process in self._running.values():
            process.ended(GRACE)
            process.kill()
        self._blank, self._heard, self._running = None, {}, {}

    # Hearing of ends

    def _watch(self, process: Child, on_end: Callable[[int], None]) -> None:
        assert self._loop is not None, "listen first"
        self._running[process.pid] = process
        try:
            fd = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # the system does not offer it
            threading.Thread(target=self._wait, args=(self._loop, process, on_end), daemon=True).start()
            return
        self._heard[process.pid] = fd
        self._loop.add_reader(fd, self._ended, process, on_end)

    def _wait(self, loop: asyncio.AbstractEventLoop, process: Child, on_end: Callable[[int], None]) -> None:
        process.wait()
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know
            loop.call_soon_threadsafe(self._ended, process, on_end)

    def _ended(self, process: Child, on_end: Callable[[int], None]) -> None:
        assert self._loop is not None
        fd = self._heard.pop(process.pid, None)
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)
        if self._running.pop(process.pid, None) is not None:
            on_end(process.wait())
