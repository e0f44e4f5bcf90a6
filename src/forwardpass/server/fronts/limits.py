"""Memory in which all fronts keep how much waits in their queues: a row of cells for each model.

An anonymous file, mapped by every front. Knows no models: it hands out places by number.
"""

from __future__ import annotations

import mmap
import os

from forwardpass.scheduler.share import CELL_BYTES, CELLS, QueueShare

SLOTS = 4096  # models at a time whose limits are shared; those beyond it have limits for each front


class SharedLimits:
    """The memory, and which places of it are taken (the first front keeps account of that)."""

    def __init__(self, fd: int, fronts: int) -> None:
        self.fd = fd
        self._width = CELLS * fronts
        self._map = mmap.mmap(fd, SLOTS * self._width * CELL_BYTES)
        self._cells = memoryview(self._map).cast("q")
        self._free = list(range(SLOTS - 1, -1, -1))

    @classmethod
    def create(cls, fronts: int) -> SharedLimits:
        fd = os.memfd_create("forwardpass-limits")
        os.ftruncate(fd, SLOTS * CELLS * fronts * CELL_BYTES)
        return cls(fd, fronts)

    def take(self) -> int | None:
        """A free place, or None where all are taken."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: int | None) -> None:
        if slot is not None:
            self._free.append(slot)

    def forget(self, front: int) -> None:
        """A front died: nothing waits in it any more."""
        for slot in range(SLOTS):
            QueueShare(self._of(slot), front)

    def share(self, slot: int | None, front: int) -> QueueShare | None:
        """The cells of a front in a place."""
        if slot is None:
            return None
        return QueueShare(self._of(slot), front)

    def _of(self, slot: int) -> memoryview:
        return self._cells[slot * self._width : (slot + 1) * self._width]
