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
from dataclasses import dataclass

import msgspec

from forwardpass.engine.arena import Arena
from forwardpass.engine.template import Ended, Fork, Forked
from forwardpass.errors import NotReady
from forwardpass.registry import ModelLocation

log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(Forked | Ended)


@dataclass(frozen=True, slots=True)
class Born:
    """A forked worker, as the front holds it."""

    pid: int
    link: socket.socket
    requests: Arena | None
    replies: Arena | None


class Nursery:
    """One template process, started again should it die."""

    def __init__(self, log_level: str = "info") -> None:
        self._log_level = log_level
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._on_end: dict[int, Callable[[int], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear the template on this loop from now on."""
        self._loop = loop
        loop.add_reader(self._control.fileno(), self._hear)

    async def fork(self, model: ModelLocation, threads: int, on_end: Callable[[int], None]) -> Born:
        """A new worker that loads the model. ``on_end`` is told its exit status (minus the signal).

        Raises ``NotReady`` where the template cannot fork.
        """
        assert self._loop is not None, "listen first"
        ours, theirs = socket.socketpair()
        arenas = [arena for arena in (Arena.create(), Arena.create()) if arena is not None]
        order = Fork(model.name, model.version, str(model.path.resolve()), threads, self._log_level)
        forked: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append(forked)
        try:
            fds = [theirs.fileno(), *(arena.fd for arena in arenas)]
            socket.send_fds(self._control, [msgspec.msgpack.encode(order)], fds)
            pid = await forked
        except OSError as error:
            ours.close()
            raise NotReady(f"no worker could be started: {error}") from None
        finally:
            theirs.close()
            for arena in arenas:
                arena.close()
        self._on_end[pid] = on_end
        return Born(pid, ours, arenas[0] if arenas else None, arenas[1] if arenas else None)

    def close(self) -> None:
        """Let the template go; it ends when its link closes."""
        if self._loop is not None:
            self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._process.wait()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "forwardpass.engine.template", str(theirs.fileno())]
        # one thread in numpy's own library: a worker's cores belong to its backend
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()

    def _hear(self) -> None:
        data = self._control.recv(65536)
        if not data:
            self._restart()
            return
        message = _decoder.decode(data)
        if isinstance(message, Ended):
            on_end = self._on_end.pop(message.pid, None)
            if on_end is not None:
                on_end(message.status)
        elif self._waiting:
            self._waiting.popleft().set_result(message.pid)

    def _restart(self) -> None:
        """The template died. Workers live on; whoever waits for one is told to try again."""
        assert self._loop is not None
        log.error("the template process ended with status %s; starting another", self._process.wait())
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        while self._waiting:
            self._waiting.popleft().set_exception(NotReady("the template process ended; try again"))
        self._start()
        self.listen(self._loop)
