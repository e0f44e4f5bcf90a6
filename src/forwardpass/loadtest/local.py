"""The engine in this process as a target: no server, no protocol, one thread per connection.

What it measures is the model by itself, as a loop of the caller's own would run it; what a door
adds is the difference. Knows of the engine only a function to call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from forwardpass.errors import ForwardpassError
from forwardpass.loadtest.target import Connection, Listener, Target

OK, FAILED = 200, 500


@dataclass(frozen=True)
class LocalTarget(Target):
    """``call`` is given one of ``requests`` at a time, in as many threads as there are connections."""

    call: Callable[[Any], Any] = repr

    async def connect(self, listener: Listener) -> Connection:
        return LocalConnection(listener, self.call)


class LocalConnection(Connection):
    """A thread that calls."""

    def __init__(self, listener: Listener, call: Callable[[Any], Any]) -> None:
        super().__init__(listener)
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1)
        self._call = call

    def send(self, request: Any) -> None:
        self.busy = True
        self._thread.submit(self._call, request).add_done_callback(self._done)

    def close(self) -> None:
        self.left = True
        self._thread.shutdown(wait=False)

    def _done(self, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None and not isinstance(error, ForwardpassError):
            message = f"{type(error).__name__}: {error}"
        else:
            message = error.message if error is not None else ""
        if not self.left:
            self._loop.call_soon_threadsafe(self._tell, FAILED if error is not None else OK, message.encode())

    def _tell(self, status: int, body: bytes) -> None:
        if not self.left:
            self.busy = False
            self.listener.answered(self, status, b"", body)
