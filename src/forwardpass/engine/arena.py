"""Memory that a front and its worker share, for columns too large for the socket.

An anonymous file mapped by both: nothing with a name, so nothing can be left behind. One side
writes, the other reads, and the batch protocol (one batch under way) says when it is free again.
Pages cost memory only once touched; where the system has no such files there is no arena and all
goes through the socket.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from forwardpass.types import Array

SIZE = 256 * 1024 * 1024  # address space; a batch that needs more sends the rest through the socket
ALIGNMENT = 64
KEEP = 16 * 1024 * 1024  # touched memory that is kept for the next batch


class Arena:
    """A shared region with a bump allocator."""

    def __init__(self, fd: int) -> None:
        self.fd: int | None = fd
        self._map = mmap.mmap(fd, SIZE)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._used = 0

    @staticmethod
    def offered() -> bool:
        """Whether the system has such files."""
        return hasattr(os, "memfd_create")

    @classmethod
    def create(cls) -> Arena | None:
        if not cls.offered():
            return None
        fd = os.memfd_create("forwardpass-arena")
        try:
            os.ftruncate(fd, SIZE)
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    def reset(self) -> None:
        """Everything allocated is free again; what a large batch touched goes back to the system."""
        if self._used > KEEP and hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE, 0, mmap.PAGESIZE * (self._used // mmap.PAGESIZE + 1))
        self._used = 0

    def allocate(self, nbytes: int) -> int | None:
        """The offset of a free region, or None where there is no room."""
        offset = -(-self._used // ALIGNMENT) * ALIGNMENT
        if offset + nbytes > SIZE:
            return None
        self._used = offset + nbytes
        return offset

    def view(self, offset: int, nbytes: int) -> Array:
        """The bytes of a region, not copied."""
        return self._bytes[offset : offset + nbytes]

    def close(self) -> None:
        """Close the file; the mapping itself goes when the last array that looks into it does."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
