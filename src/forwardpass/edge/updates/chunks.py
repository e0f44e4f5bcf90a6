"""Where a bundle is cut into chunks, and which chunks lie in files that a device has.

Cut where a file of the bundle begins and ends, and within it every 256 KiB: a file that two versions
share is the same chunks in both, wherever it lies. Knows no release and no network.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from forwardpass.errors import InvalidModel

LARGEST = 256 * 1024
_HEADER = struct.Struct("<26xHH")  # of a file in a ZIP: the lengths of its name and of what is extra


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of a file, from ``offset`` on."""

    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with open(self.file, "rb") as content:
            content.seek(self.offset)
            return content.read(self.size)


def cut_bundle(path: Path) -> list[Stretch]:
    """All of a bundle, in order. Raises ``InvalidModel`` where it is none."""
    size = path.stat().st_size
    edges = {0, size}
    for offset, length in _stored(path):
        edges |= {offset, *range(offset, offset + length, LARGEST), offset + length}
    marks = sorted(edges)
    if marks[-1] != size:
        raise InvalidModel(f"{path} is cut short; make it again with `forwardpass bundle`")
    return [piece for start, end in itertools.pairwise(marks) for piece in _cut(path, start, end)]


def cut_file(path: Path) -> list[Stretch]:
    """A file that was unpacked from a bundle: the chunks it was there."""
    return _cut(path, 0, path.stat().st_size)


def find_chunks(files: Iterable[Path]) -> dict[str, Stretch]:
    """The chunks in files, by SHA-256; files that cannot be read hold none."""
    found: dict[str, Stretch] = {}
    for file in files:
        try:
            for stretch in cut_file(file):
                found[hashlib.sha256(stretch.read()).hexdigest()] = stretch
        except OSError:
            continue
    return found


def _cut(path: Path, start: int, end: int) -> list[Stretch]:
    return [Stretch(path, offset, min(LARGEST, end - offset)) for offset in range(start, end, LARGEST)]


def _stored(path: Path) -> Iterator[tuple[int, int]]:
    """Offset and length of the content of each file in a ZIP that does not compress."""
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as content:
            for entry in archive.infolist():
                content.seek(entry.header_offset)
                name, extra = _HEADER.unpack(content.read(_HEADER.size))
                yield entry.header_offset + _HEADER.size + name + extra, entry.compress_size
    except (OSError, zipfile.BadZipFile, struct.error) as error:
        raise InvalidModel(f"{path} is no bundle: {error}") from None
