"""A link between a front and a worker: a socket for messages, and memory for large columns.

Either end can be handed to another process as file descriptors. Knows no messages.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from forwardpass.engine.arena import Arena

MOST_FDS = 253  # that the system passes in one message
_PER_LINK = 3 if Arena.offered() else 1


@dataclass(frozen=True, slots=True)
class Link:
    """One end. Requests and replies each have their memory, where the system offers it."""

    socket: socket.socket
    requests: Arena | None
    replies: Arena | None

    @staticmethod
    def width() -> int:
        """How many descriptors a link is."""
        return _PER_LINK

    @classmethod
    def pair(cls) -> tuple[Link, Link]:
        """Both ends of a new link. They share the arenas. Raises ``OSError``."""
        ours, theirs = socket.socketpair()
        requests, replies = Arena.create(), Arena.create()
        return cls(ours, requests, replies), cls(theirs, requests, replies)

    @classmethod
    def all_of(cls, fds: Sequence[int]) -> list[Link]:
        """The links whose ``fds`` came from another process, one after the other."""
        return [cls._of(fds[start : start + _PER_LINK]) for start in range(0, len(fds), _PER_LINK)]

    @classmethod
    def _of(cls, fds: Sequence[int]) -> Link:
        link, *arenas = fds
        requests, replies = [Arena(fd) for fd in arenas] if arenas else (None, None)
        made = cls(socket.socket(fileno=link), requests, replies)
        made.keep()
        return made

    @property
    def fds(self) -> list[int]:
        """What to pass to the process that is to hold this end."""
        arenas = [arena.fd for arena in (self.requests, self.replies) if arena is not None and arena.fd is not None]
        return [self.socket.fileno(), *arenas]

    def keep(self) -> None:
        """It stays in this process: the memory is mapped, and its files need not stay open."""
        for arena in (self.requests, self.replies):
            if arena is not None:
                arena.close()

    def close(self) -> None:
        self.keep()
        self.socket.close()
