"""Where load goes, and one connection of it.

A ``Target`` opens connections; a ``Connection`` sends one request at a time and tells its
``Listener`` how it ended. One file per protocol. Knows no clock, no rate and no counting.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol


class Listener(Protocol):
    """Hears how requests end: exactly one call for each request sent, unless its connection is left."""

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        """A whole answer: an HTTP status, header lines as bytes, the body."""

    def broken(self, connection: Connection, kind: str) -> None:
        """The request will have no answer, and the connection is of no more use; ``kind`` says why."""

    def lost(self, connection: Connection) -> None:
        """The server closed an idle connection, as it may."""


class Connection(ABC):
    """One request at a time. The driver keeps what it knows of that request here.

    ``planned`` and ``sent`` are readings of the driver's clock, ``index`` the request's number in
    ``Target.requests``, ``leave_at`` when the driver gives it up. ``closing`` true: the server
    closes it after this answer.
    """

    planned = 0.0
    sent = 0.0
    index = 0
    leave_at = inf
    leaves = False  # given up on purpose, not because it took too long
    busy = False
    closing = False
    left = False  # by us: nothing of it is told any more

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    @abstractmethod
    def send(self, request: Any) -> None:
        """Send one request of ``Target.requests``. Never called while another is under way."""

    @abstractmethod
    def close(self) -> None:
        """Leave, also with a request under way."""

    def alive(self) -> bool:
        """Whether an idle connection may be used: false where the server has closed it, as is still to be told."""
        return True


@dataclass(frozen=True)
class Target(ABC):
    """A door of a server and the prepared requests it gets.

    ``door`` is a name for people. ``requests`` are sent in turn where ``seed`` is None, else drawn
    at random with that seed.
    """

    door: str
    requests: Sequence[Any]
    seed: int | None = None

    @abstractmethod
    async def connect(self, listener: Listener) -> Connection:
        """A new connection. Raises ``OSError`` where there is none to be had."""

    async def close(self) -> None:
        """Free what the connections shared."""
        return

    def indices(self) -> Iterator[int]:
        """Which request comes next, for ever."""
        count = len(self.requests)
        if self.seed is None or count == 1:
            while True:
                yield from range(count)
        draw = random.Random(self.seed)  # noqa: S311 - which request, not a secret
        while True:
            yield from draw.choices(range(count), k=1024)
