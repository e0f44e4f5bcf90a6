"""The contract of an output, and of what delivers for it.

An ``Output`` takes messages and never makes anybody wait; ``queue.py`` is the only one, around a
``Sender`` that knows one way of delivering. Knows no rules.
"""

from __future__ import annotations

from typing import Any, Protocol


class Output(Protocol):
    """One way out.

    ``name`` is how status calls it, ``problem`` what keeps it from delivering right now ("" for
    nothing). ``counts`` only grow: ``sent`` messages were taken by the other side, ``failed`` were
    refused by it, ``dropped`` found no room in the queue or were left at the end.
    """

    name: str
    counts: dict[str, int]
    problem: str

    @property
    def waiting(self) -> int:
        """Messages in the queue."""

    async def send(self, message: dict[str, Any]) -> None:
        """Put it into the queue; returns at once, and never raises for what the outside does."""

    async def deliver(self, message: dict[str, Any]) -> None:
        """The same; returns once the other side took it, or refused it for good.

        It is not dropped for others, so whoever calls this bounds how many there are. Raises ``NotReady`` where it
        was left at the end.
        """

    async def close(self, within: float = 5.0) -> None:
        """Deliver what waits, for so many seconds at most, then let go of everything."""


class Sender(Protocol):
    """One way of delivering, one message after another."""

    async def deliver(self, message: dict[str, Any]) -> None:
        """Return when the other side has it. Raises ``Undelivered``."""

    async def close(self) -> None: ...


class Undelivered(Exception):
    """Why a message is not there. ``again``: whether trying again later makes sense."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again
