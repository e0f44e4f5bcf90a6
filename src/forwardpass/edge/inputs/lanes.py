"""Items that wait to be answered: those of one key one after another, those of unlike keys side by side.

Which lane a key has is the same at every start. Bounded over all: of more than ``most`` the oldest goes, whichever
lane it waits in. Knows nothing of the items.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count
from typing import Generic, TypeVar
from zlib import crc32

T = TypeVar("T")


class Lane(Generic[T]):
    """What one task works off; ``waiting`` has each item with its number in the order of arrival."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, T]] = deque()
        self._ended = False
        self._change = asyncio.Event()

    def put(self, number: int, item: T) -> None:
        self.waiting.append((number, item))
        self._change.set()

    def end(self) -> None:
        self._ended = True
        self._change.set()

    async def next(self) -> T | None:
        """None where it has ended, and nothing waits any more."""
        while not self.waiting:
            if self._ended:
                return None
            self._change.clear()
            await self._change.wait()
        return self.waiting.popleft()[1]


class Lanes(Generic[T]):
    """``number`` of lanes."""

    def __init__(self, number: int, most: int) -> None:
        self.lanes: list[Lane[T]] = [Lane() for _ in range(number)]
        self._most = most
        self._arrived = count()

    def put(self, key: str, item: T) -> T | None:
        """What had to go for it."""
        self.lanes[crc32(key.encode()) % len(self.lanes)].put(next(self._arrived), item)
        if sum(len(lane.waiting) for lane in self.lanes) <= self._most:
            return None
        oldest = min((lane.waiting for lane in self.lanes if lane.waiting), key=lambda waiting: waiting[0][0])
        return oldest.popleft()[1]

    def end(self) -> None:
        """Nothing more comes; the lanes end when they are empty."""
        for lane in self.lanes:
            lane.end()
