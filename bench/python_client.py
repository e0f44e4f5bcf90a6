"""The load generator for machines without ``wrk``: uvloop protocols, one request in flight each.

Reads one JSON object of options from its command line, prints the same line as ``post.lua``. It
is slower than the faster servers it measures; the table says when it was used.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop


class Counts:
    """What all connections share."""

    def __init__(self, requests: list[bytes], until: float) -> None:
        self.requests = cycle(requests)
        self.until = until
        self.latencies: list[float] = []
        self.errors = 0


class Client(asyncio.Protocol):
    """One connection: sends, reads the whole answer (by its Content-Length), sends again."""

    def __init__(self, counts: Counts, closed: asyncio.Future[None]) -> None:
        self._counts = counts
        self._closed = closed
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._started = perf_counter()
        self._transport.write(next(self._counts.requests))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or len(body) < content_length(head):
            return
        now = perf_counter()
        self._data = b""
        if now > self._counts.until:
            self._transport.close()
            return
        self._counts.errors += not head.startswith(b"HTTP/1.1 200")
        self._counts.latencies.append(now - self._started)
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        self._counts.errors += perf_counter() < self._counts.until
        self._closed.set_result(None)


def content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(b"content-length:") + len(b"content-length:")
    return int(lower[start:].split(b"\r\n", 1)[0])


def encode(path: str, headers: dict[str, str], body: bytes) -> bytes:
    every = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def run(options: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    requests = [encode(options["path"], options["headers"], Path(body).read_bytes()) for body in options["bodies"]]
    started = perf_counter()
    counts = Counts(requests, started + options["seconds"])
    closed = [loop.create_future() for _ in range(options["connections"])]
    for future in closed:
        await loop.create_connection(partial(Client, counts, future), "127.0.0.1", options["port"])
    await asyncio.wait(closed, timeout=options["seconds"] + 20)
    latencies = sorted(counts.latencies) or [0.0]
    p50, p99 = (round(1e6 * latencies[min(len(latencies) - 1, len(latencies) * p // 100)]) for p in (50, 99))
    seconds = {"requests": len(counts.latencies), "microseconds": round(1e6 * options["seconds"])}
    unfinished = sum(not future.done() for future in closed)
    return {**seconds, "errors": counts.errors + unfinished, "p50": p50, "p99": p99, "histogram": []}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.loads(sys.argv[1])))))
