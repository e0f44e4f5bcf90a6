"""A network that can be cut: a TCP proxy on loopback that lets everything through, or nothing.

Cut, what is under way is torn off in the middle and nobody is let in. Knows no protocol.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

CHUNK = 65536


class Link:
    """From a port of its own to ``target``, a port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def restore(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._open |= {writer, inner}
        try:
            await asyncio.gather(_pass_on(reader, inner), _pass_on(inner_reader, writer))
        finally:
            for end in (writer, inner):
                self._open.discard(end)
                end.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def free_port() -> int:
    """A port of loopback that nobody listens on right now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
