"""A bundle put together from its chunks, in one file that fills up; what is in it survives until the next try.

Each chunk is written where it belongs after it was checked. Which ones are there is found out by checking
them again, so that no loss of power can leave a file that is believed but wrong. Knows no network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from forwardpass.edge import durable
from forwardpass.edge.updates.chunks import Stretch
from forwardpass.edge.updates.release import Chunk, Release
from forwardpass.errors import InvalidModel

ENDING = ".part"


class Assembly:
    """The file of a release that is on its way. ``OSError`` where the disk fails or is full."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.path = folder / f"{release.sha256[:32]}{ENDING}"
        self._release = release

    def allocated(self) -> int:
        """Bytes that it takes on the disk already."""
        return self.path.stat().st_blocks * 512 if self.path.exists() else 0

    def lacking(self, here: Mapping[str, Stretch]) -> list[tuple[int, Chunk]]:
        """Fill in what the release itself and the files that are here give; offset and chunk of all that is left.

        ``here`` are stretches of files by their SHA-256. Takes the room for all of it on the disk.
        """
        left: list[tuple[int, Chunk]] = []
        with self._opened() as descriptor:
            os.posix_fallocate(descriptor, 0, max(self._release.size, 1))
            os.ftruncate(descriptor, self._release.size)
            for offset, chunk in self._places():
                if _is(os.pread(descriptor, chunk.size, offset), chunk):
                    continue
                content = _here(chunk, here)
                if content is None:
                    left.append((offset, chunk))
                else:
                    _write(descriptor, content, offset)
        return left

    def put(self, offset: int, content: bytes) -> None:
        """Write a chunk that was checked where it belongs."""
        with self._opened() as descriptor:
            _write(descriptor, content, offset)

    def finish(self) -> Path:
        """The whole bundle, on the disk. Raises ``InvalidModel`` where it is not what the release says."""
        with open(self.path, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != self._release.sha256 or self.path.stat().st_size != self._release.size:
            self.path.unlink()
            raise InvalidModel(f"update refused: the bundle of {self._release} is not what the release says")
        durable.sync(self.path)
        return self.path

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _places(self) -> Iterator[tuple[int, Chunk]]:
        offset = 0
        for chunk in self._release.chunks:
            yield offset, chunk
            offset += chunk.size

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def remove_others(folder: Path, keep: Path | None) -> None:
    """Remove what is left of releases that are not wanted any more."""
    for path in folder.glob(f"*{ENDING}"):
        if path != keep:
            path.unlink()


def _here(chunk: Chunk, here: Mapping[str, Stretch]) -> bytes | None:
    """The bytes of a chunk that need not be fetched, or None. Files may have changed since they were looked at."""
    if chunk.inline is not None:
        if not _is(chunk.inline, chunk):
            raise InvalidModel("update refused: the release holds a chunk that is not what it says itself")
        return chunk.inline
    stretch = here.get(chunk.sha256)
    content = stretch.read() if stretch else b""
    return content if _is(content, chunk) else None


def _is(content: bytes, chunk: Chunk) -> bool:
    return len(content) == chunk.size and hashlib.sha256(content).hexdigest() == chunk.sha256


def _write(descriptor: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
