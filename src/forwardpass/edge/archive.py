"""The container of a bundle: a ZIP file, stored, of which names and contents determine every byte.

Any ZIP program can open one. Read here, it must be exactly what ``write_archive`` would have written: one header
and one content after the other, then the directory, then nothing. So there is no room for names that occur twice,
for sizes that lie, or for anything that was not asked for by name. Knows no manifest and no signature.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from forwardpass.errors import InvalidModel

_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY = struct.Struct("<4s2B5H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _UNIX, _UTF8, _STORED = 20, 3, 0x800, 0
_TIME, _DATE = 0, 0x21  # midnight of the first of January 1980, the earliest there is
_MODE = 0o100644 << 16
_MOST = 0xFFFF_FFFF  # bytes, of the archive and so of all in it; more needs another format
_CHUNK = 1 << 20

Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size: int
    crc: int
    offset: int


def write_archive(file: BinaryIO, contents: Iterable[tuple[str, bytes | Path]]) -> None:
    """Write bytes and files under their names, in this order. Raises ``InvalidModel`` where it gets too large."""
    entries: list[_Entry] = []
    offset = 0
    for name, content in contents:
        entry = _Entry(name, *_measure(content), offset)
        offset += archived_size(name, entry.size)
        if offset > _MOST:
            raise InvalidModel(f"{name}: a bundle holds at most 4 GiB, and this file makes it larger")
        entries.append(entry)
        file.write(_local_header(name, entry.size, entry.crc))
        for chunk in _chunks(content):
            file.write(chunk)
    file.write(_directory(entries, offset))


def archived_size(name: str, size: int) -> int:
    """Bytes of an archive up to the end of one content, from the end of the one before."""
    return _LOCAL.size + len(name.encode()) + size


def directory_size(names: Iterable[str]) -> int:
    """Bytes of an archive behind the last content."""
    return _END.size + sum(_DIRECTORY.size + len(name.encode()) for name in names)


class ArchiveReader:
    """An archive read from front to back. Every method raises ``InvalidModel``, naming the entry that is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries: list[_Entry] = []
        self._offset = 0

    def read(self, name: str, most: int) -> bytes:
        """The next entry, which must have this name and at most so many bytes."""
        place = self._file.tell()
        head = self._exactly(_LOCAL.size, name)
        magic, *_, size, _, length, _ = _LOCAL.unpack(head)
        if magic != b"PK\x03\x04" or length != len(name.encode()):
            raise InvalidModel(f"{name}: is not where a bundle has it; this is no bundle, or it was changed")
        if size > most:
            raise InvalidModel(f"{name}: is said to have {size} bytes; at most {most} are taken")
        self._file.seek(place)
        content = bytearray()
        self.copy(name, size, content.extend)
        return bytes(content)

    def copy(self, name: str, size: int, write: Write) -> str:
        """The next entry, which must have this name and size, piece by piece to ``write``. Gives its SHA-256."""
        head = self._exactly(len(_local_header(name, size, 0)), name)
        said = _LOCAL.unpack_from(head)[6]  # the checksum, known only when the content was read
        if head != _local_header(name, size, said):
            raise InvalidModel(f"{name}: its header is not what it must be by its name and size; it was changed")
        crc, digest = 0, hashlib.sha256()
        left = size
        while left:
            chunk = self._exactly(min(left, _CHUNK), name)
            left -= len(chunk)
            crc = zlib.crc32(chunk, crc)
            digest.update(chunk)
            write(chunk)
        if crc != said:
            raise InvalidModel(f"{name}: its content does not match its checksum; it was changed")
        self._entries.append(_Entry(name, size, crc, self._offset))
        self._offset += archived_size(name, size)
        return digest.hexdigest()

    def finish(self) -> None:
        """What follows must be the directory of what was read, and nothing else."""
        for entry in self._entries:
            if self._exactly(len(_directory_line(entry)), entry.name) != _directory_line(entry):
                raise InvalidModel(f"{entry.name}: its line in the archive's directory was changed")
        end = self._file.read(_END.size + 1)
        if end != _end(self._entries, self._offset):
            raise InvalidModel("the end of the archive was changed, or something follows it")

    def _exactly(self, count: int, name: str) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise InvalidModel(f"{name}: the file ends in the middle of it; it was cut short")
        return data


def _measure(content: bytes | Path) -> tuple[int, int]:
    """Size and checksum."""
    size = crc = 0
    for chunk in _chunks(content):
        size += len(chunk)
        crc = zlib.crc32(chunk, crc)
    return size, crc


def _chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _local_header(name: str, size: int, crc: int) -> bytes:
    encoded = name.encode()
    return (
        _LOCAL.pack(b"PK\x03\x04", _VERSION, _UTF8, _STORED, _TIME, _DATE, crc, size, size, len(encoded), 0) + encoded
    )


def _directory(entries: list[_Entry], offset: int) -> bytes:
    return b"".join(map(_directory_line, entries)) + _end(entries, offset)


def _directory_line(entry: _Entry) -> bytes:
    encoded = entry.name.encode()
    head = (b"PK\x01\x02", _VERSION, _UNIX, _VERSION, _UTF8, _STORED, _TIME, _DATE, entry.crc, entry.size, entry.size)
    return _DIRECTORY.pack(*head, len(encoded), 0, 0, 0, 0, _MODE, entry.offset) + encoded


def _end(entries: list[_Entry], offset: int) -> bytes:
    count, size = len(entries), sum(len(_directory_line(entry)) for entry in entries)
    return _END.pack(b"PK\x05\x06", 0, 0, count, count, size, offset, 0)
