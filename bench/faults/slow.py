"""Thousands of connections that send slowly or nothing at all, beside clients that behave.

Half of them trickle a request one byte at a time, a quarter says nothing from the start, a quarter
asked once and fell idle. Each must be closed within the time that the settings give it.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import cast

from tests import artifacts

from bench.faults import numbers
from bench.faults.fault import Trial, unaccounted, unexplained, why
from bench.faults.figure import Figure
from bench.processes import Server
from forwardpass.loadtest import Result, opened, run

RATE = 400.0  # requests per second of those who behave
COUNT = 4000  # slow connections
RECEIVE, KEEP_ALIVE = 6.0, 8.0  # seconds that the server is set to allow
SLACK = 2.0  # seconds beyond that: connections are looked at once a second
AT_ONCE = 50  # connections opened in a row, then the loop has its turn
EVERY = 1.0  # seconds between two bytes
SLOW, SILENT, ASKED = "slow", "silent", "asked"


def measure(trial: Trial) -> list[Figure]:
    count = 300 if trial.quick else COUNT
    receive, keep_alive = (1.0, 1.5) if trial.quick else (RECEIVE, KEEP_ALIVE)
    allow_files(2 * count + 1000)
    artifacts.identity(trial.work / "slow" / "steady" / "model.onnx", shape=("N", 1))
    settings = trial.work / "slow.yaml"
    settings.write_text(f"receive_timeout: {receive}\nkeep_alive: {keep_alive}\n")
    folder = trial.work / "slow" / "steady"
    with trial.serve(folder, "--config", str(settings), name="slow") as server:
        alone, result, crowd = run(_beside(trial, server, count, max(receive, keep_alive) + SLACK + 1))
    return [
        *_others(alone, result),
        *_closed(crowd, count, {SLOW: receive, SILENT: keep_alive, ASKED: keep_alive}),
    ]


def allow_files(count: int) -> None:
    """This process, and servers that it starts, may open so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(hard, count)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@dataclass
class Crowd:
    """All slow connections: how long each kind was held open, and what went wrong."""

    held: dict[str, list[float]] = field(default_factory=lambda: {SLOW: [], SILENT: [], ASKED: []})
    open: set[SlowClient] = field(default_factory=set)
    failed: int = 0

    def trickle(self) -> None:
        for client in self.open:
            client.trickle()


class SlowClient(asyncio.Protocol):
    """One of them. Its time counts from when its request began, or from when it fell idle."""

    def __init__(self, crowd: Crowd, kind: str, request: bytes) -> None:
        self._crowd, self._kind, self._request = crowd, kind, request
        self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._since = asyncio.get_running_loop().time()
        self._crowd.open.add(self)
        if self._kind == ASKED:
            self._transport.write(self._request)

    def trickle(self) -> None:
        if self._kind == SLOW:
            self._transport.write(self._request[self._sent : self._sent + 1])
            self._sent += 1

    def data_received(self, data: bytes) -> None:
        if self._kind == ASKED:
            self._since = asyncio.get_running_loop().time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.open.discard(self)
        self._crowd.held[self._kind].append(asyncio.get_running_loop().time() - self._since)


async def _beside(trial: Trial, server: Server, count: int, seconds: float) -> tuple[Result, Result, Crowd]:
    """Those who behave, by themselves and beside the crowd; and what became of the crowd."""
    target = numbers.target(server, "steady")
    await opened(target, RATE, 0.5, check=numbers.right)
    alone = await opened(target, RATE, 1.5 if trial.quick else 15, check=numbers.right)
    crowd = Crowd()
    crowding = asyncio.create_task(_gather(crowd, server, count, target.requests[0]))
    result = await opened(target, RATE, trial.lasts(3 * seconds, seconds), check=numbers.right)
    crowding.cancel()
    await asyncio.gather(crowding, return_exceptions=True)
    return alone, result, crowd


async def _gather(crowd: Crowd, server: Server, count: int, request: bytes) -> None:
    """Open them all, then let them trickle."""
    loop = asyncio.get_running_loop()
    for number, kind in zip(range(count), cycle((SLOW, SILENT, SLOW, ASKED)), strict=False):
        try:
            client = partial(SlowClient, crowd, kind, request)
            await loop.create_connection(client, "127.0.0.1", server.port)
        except OSError:
            crowd.failed += 1
        if number % AT_ONCE == 0:
            await asyncio.sleep(0.01)
    while True:
        crowd.trickle()
        await asyncio.sleep(EVERY)


def _others(alone: Result, result: Result) -> list[Figure]:
    p99 = [run.latency.percentile(99) * 1e3 for run in (alone, result)]
    return [
        Figure("p99 of the others", p99[1] / p99[0], "of that without", 1.2, timing=True,
               note=f"{p99[0]:.2f} ms without, {p99[1]:.2f} ms with"),
        Figure("rate of the others", result.rate / RATE, "of what they send", 0.95, at_least=True, timing=True,
               note=f"{result.rate:.0f}/s of {RATE:.0f}/s"),
        Figure("failed requests of the others", unexplained(result) + unaccounted(result) + result.refused.count, "",
               0, note=f"{result.ok} answered. {why(result)}"),
    ]  # fmt: skip


def _closed(crowd: Crowd, count: int, allowed: dict[str, float]) -> list[Figure]:
    words = {
        SLOW: "a request that trickles",
        SILENT: "a connection that says nothing",
        ASKED: "a connection fallen idle",
    }
    return [
        Figure("slow connections not accepted, or still open at the end", crowd.failed + len(crowd.open), "", 0,
               note=f"{count} opened"),
        *(Figure(f"longest that {words[kind]} was held", max(held, default=0), "s", allowed[kind] + SLACK,
                 note=f"{len(held)} of them, shortest {min(held, default=0):.1f} s; set: {allowed[kind]:g} s")
          for kind, held in crowd.held.items()),
    ]  # fmt: skip
