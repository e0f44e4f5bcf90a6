"""What a client sends, as asyncio's streams read it, and at once the word that it sends no more.

Reads ahead while a request is answered, so that its client's leaving is heard, up to a bound. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress

MOST_AHEAD = 256 * 1024  # bytes that are kept until they are asked for; then it reads no more for now

Ended = Callable[[bool], None]  # whether the client is gone, or only sends no more


class Reader(asyncio.StreamReader):
    """A stream's reader with one listener."""

    def __init__(self) -> None:
        super().__init__(limit=MOST_AHEAD // 2)  # a stream stops at twice its limit
        self._over = False
        self._told: Ended | None = None

    def part(self, sock: socket.socket) -> bool:
        """Tell a client that it comes too late, on the socket itself; false where something has arrived after all.

        The loop closes a socket a turn later, in which a request could come and be lost.
        """
        arrived = select.poll()
        arrived.register(sock.fileno(), select.POLLIN)
        held = self._over or bool(self._buffer)  # type: ignore[attr-defined]  # it has no word for that
        if held or arrived.poll(0):
            return False
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        return True

    def tell(self, ended: Ended | None) -> None:
        """``ended`` is called, in a later turn of the loop, when the client sends no more, or if it has already."""
        self._told = ended
        if self._over:
            self._tell()

    def feed_eof(self) -> None:
        super().feed_eof()
        self._over = True
        self._tell()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._over = True
        self._tell()

    def _tell(self) -> None:
        if self._told is not None:
            # what came before leaves for the model first
            asyncio.get_running_loop().call_soon(self._told, self.exception() is not None)
