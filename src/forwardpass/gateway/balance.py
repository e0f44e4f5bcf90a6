"""Several servers that have the same model: which of them gets the next batch.

The one with the fewest rows under way, among those that are ready and whose breaker lets it through; ties at random, so
that several gateways do not all choose the same one. No server gets more than so many batches at a time. Knows how busy
a server is, not what it is asked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from forwardpass.address import Address
from forwardpass.credentials import Token
from forwardpass.errors import NotReady
from forwardpass.gateway.breaker import Breaker, BreakerState
from forwardpass.gateway.connection import Pool

NOT_ASKED = "not asked yet"


@dataclass(eq=False)
class Server:
    """One server of a model. ``healthy`` is what it said when last asked, ``reason`` why it is not."""

    url: str
    pool: Pool
    breaker: Breaker
    healthy: bool = False
    reason: str = NOT_ASKED
    known: bool = False  # it has said what its model takes and gives, and that fits
    batches: int = 0  # under way
    rows: int = 0  # under way
    sent: int = 0
    failed: int = 0
    look: asyncio.Event = field(default_factory=asyncio.Event)  # set: ask it soon how it is

    @classmethod
    def at(cls, url: str, clock: Callable[[], float], token: Token | None = None) -> Server:
        """Raises ``InvalidInput`` where the URL is none."""
        return cls(url, Pool(Address.base(url), token), Breaker(clock))

    @property
    def usable(self) -> bool:
        return self.healthy and self.breaker.allows()

    def why_not(self) -> str:
        if not self.healthy:
            return f"{self.url}: {self.reason}"
        return f"{self.url}: its last answers failed" if self.breaker.state is not BreakerState.CLOSED else self.url


class Balance:
    """Hands out servers, ``most`` batches at a time each; give each back with ``release``."""

    def __init__(self, servers: Sequence[Server], most: int, chance: random.Random) -> None:
        self.servers = tuple(servers)
        self._most = most
        self._chance = chance
        self._freed = asyncio.Event()

    async def take(self, rows: int, tried: Collection[Server] = ()) -> Server:
        """A server for a batch; one that was ``tried`` only where there is no other.

        Waits until one has room. Raises ``NotReady`` naming what is wrong with each, where none can be asked.
        """
        while True:
            usable = [server for server in self.servers if server.usable]
            fresh = [server for server in usable if server not in tried]
            if not usable:
                raise NotReady("no server can answer: " + "; ".join(server.why_not() for server in self.servers))
            free = [server for server in fresh or usable if server.batches < self._most]
            if free:
                return self._begin(self._least_busy(free), rows)
            freed = self._freed
            await freed.wait()

    def release(self, server: Server, rows: int) -> None:
        server.batches -= 1
        server.rows -= rows
        self.changed()

    def changed(self) -> None:
        """Those that wait for a server look again."""
        self._freed.set()
        self._freed = asyncio.Event()

    def _least_busy(self, servers: Sequence[Server]) -> Server:
        least = min(server.rows for server in servers)
        return self._chance.choice([server for server in servers if server.rows == least])

    def _begin(self, server: Server, rows: int) -> Server:
        server.breaker.begin()
        server.batches += 1
        server.rows += rows
        server.sent += 1
        return server
