"""The front's handle on the template process: asks it for workers, hears when they end.

Start it early: the template imports while the front still does its own imports.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from forwardpass.engine.blank import ENVIRONMENT
from forwardpass.engine.link import Link
from forwardpass.engine.starter import Born
from forwardpass.engine.template import Ended, Fork, Forked
from forwardpass.errors import NotReady
from forwardpass.registry import ModelLocation

log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(Forked | Ended)


class Nursery:
    """A ``Starter``: one template process, started again should it die."""

    def __init__(self, log_level: str = "info") -> None:
        self._log_level = log_level
        self._waiting: deque[tuple[asyncio.Future[int], Callable[[int], None]]] = deque()
        self._on_end: dict[int, Callable[[int], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear the template on this loop from now on."""
        self._loop = loop
        loop.add_reader(self._control.fileno(), self._hear)

    async def fork(
        self,
        model: ModelLocation,
        threads: int,
        on_end: Callable[[int], None],
        *,
        measures: bool = False,
        fronts: int = 1,
    ) -> Born:
        assert self._loop is not None, "listen first"
        order = Fork(model.name, model.version, str(model.path.resolve()), threads, self._log_level, measures)
        with ExitStack() as always, ExitStack() as on_error:
            try:
                links = []
                for _ in range(fronts):
                    link, theirs = Link.pair()
                    on_error.callback(link.close)
                    always.callback(theirs.socket.close)
                    links.append((link, theirs))
                fds = [fd for _, theirs in links for fd in theirs.fds]
                socket.send_fds(self._control, [msgspec.msgpack.encode(order)], fds)
            except OSError as error:
                raise NotReady(f"no worker could be started: {error}") from None
            forked: asyncio.Future[int] = self._loop.create_future()
            self._waiting.append((forked, on_end))
            pid = await forked
            on_error.pop_all()
        return Born(pid, [link for link, _ in links])

    def close(self) -> None:
        """Let the template go; it ends when its link closes."""
        if self._loop is not None:
            self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._process.wait()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "forwardpass.engine.template", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={**os.environ, **ENVIRONMENT})
        theirs.close()

    def _hear(self) -> None:
        try:
            data = self._control.recv(65536)
        except ConnectionResetError:  # it died with orders unread
            data = b""
        if not data:
            self._restart()
            return
        message = _decoder.decode(data)
        if isinstance(message, Ended):
            on_end = self._on_end.pop(message.pid, None)
            if on_end is not None:
                on_end(message.status)
        elif self._waiting:
            forked, self._on_end[message.pid] = self._waiting.popleft()
            if not forked.done():  # else nobody waits for it any more, and its link is closed
                forked.set_result(message.pid)

    def _restart(self) -> None:
        """The template died. Workers live on; whoever waits for one is told to try again."""
        assert self._loop is not None
        log.error("the template process ended with status %s; starting another", self._process.wait())
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        while self._waiting:
            forked, _ = self._waiting.popleft()
            if not forked.done():
                forked.set_exception(NotReady("the template process ended; try again"))
        self._start()
        self.listen(self._loop)
