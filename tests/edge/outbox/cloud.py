"""A real intake behind the real application, in a thread; and a link to it that can be cut at any byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvicorn

from forwardpass.server.http.app import App
from forwardpass.server.intake import Intake


@dataclass(frozen=True)
class Cloud:
    """What was taken in, and where."""

    url: str
    intake: Intake

    def ids(self, device: str = "device-1") -> list[str]:
        """In the order of arrival."""
        return [entry["id"] for entry in self.entries(device)]

    def entries(self, device: str = "device-1") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self.intake.entries(device, None, found[-1]["number"] if found else 0, 1000):
            found += [entry | {"body": json.loads(entry["body"])} for entry in page]
        return found


@contextlib.contextmanager
def cloud(folder: Path) -> Iterator[Cloud]:
    """The application with no models and an intake; the folder is made."""
    folder.mkdir(parents=True)
    intake = Intake(folder)
    nothing = cast(Any, None)
    app = App(nothing, nothing, nothing, None, intake).build()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        end = time.monotonic() + 30.0
        while not server.started and time.monotonic() < end:
            time.sleep(0.002)
        try:
            yield Cloud(f"http://127.0.0.1:{sock.getsockname()[1]}", intake)
        finally:
            server.should_exit = True
            thread.join(30.0)
            intake.close()


@dataclass
class Link:
    """A relay to a server; ``cut_up`` and ``cut_down`` are how many bytes of the next connection pass, None: all."""

    port: int = 0
    cut_up: int | None = None
    cut_down: int | None = None
    passed_up: int = 0
    passed_down: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def link(url: str) -> AsyncIterator[Link]:
    """A link to the server at ``url``."""
    made = Link()
    host, _, port = url.removeprefix("http://").partition(":")
    connections: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(cast("asyncio.Task[None]", asyncio.current_task()))
        made.passed_up = made.passed_down = 0
        there, back = await asyncio.open_connection(host, int(port))
        up = asyncio.create_task(_pump(made, "up", reader, back))
        down = asyncio.create_task(_pump(made, "down", there, writer))
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        await asyncio.wait({up, down})
        for end in (back, writer):
            end.transport.abort()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _pump(made: Link, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the end, or the cut. A client that has sent all still waits for its answer."""
    cut: int | None = getattr(made, f"cut_{way}")
    with contextlib.suppress(OSError):
        while cut is None or cut > 0:
            data = await reader.read(65536 if cut is None else cut)
            if not data:
                break
            writer.write(data)
            await writer.drain()
            setattr(made, f"passed_{way}", getattr(made, f"passed_{way}") + len(data))
            cut = None if cut is None else cut - len(data)
