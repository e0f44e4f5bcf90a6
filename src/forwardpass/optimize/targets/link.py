"""What the two ends of a connection say to each other, over two streams of bytes.

    far:   noise of the login, MARK, Hello
    near:  Task ─► far: Missing ─► near: the bytes of those files ─► far: Answer, the bytes of the predictions   again …

A message is JSON behind its length. The near end's silence may be long (it makes candidates meanwhile), its end of file
is the end of both. Knows no processes and no models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from forwardpass.optimize.probe import Measured
from forwardpass.optimize.targets.base import Host

MARK = b"\0forwardpass target\0"
CHUNK = 2**18  # bytes
_NOISE = 2**16  # bytes that a login may print before the mark
_LONGEST = 2**28  # bytes of a message: reasons for rows that are refused may be many

Message = TypeVar("Message")


class Broken(Exception):
    """The other end is gone, or says what is no message; the text says which."""


class Stream(Protocol):
    """An unbuffered file."""

    def read(self, size: int, /) -> bytes | None: ...

    def write(self, data: bytes | memoryview, /) -> int | None: ...


@dataclass(frozen=True)
class Hello:
    """``version`` is Forwardpass's there, ``folder`` where files will lie."""

    version: str
    folder: str
    host: Host


@dataclass(frozen=True)
class File:
    digest: str
    size: int


@dataclass(frozen=True)
class Task:
    """Measure ``model``, one of the ``files``' folders or itself one; paths are within the far end's folder."""

    files: dict[str, File]
    model: str
    rows: str
    predict: bool
    threads: int | None
    seconds: float
    timeout: float


@dataclass(frozen=True)
class Missing:
    """Names of those files that the far end has not, in the order in which it wants them."""

    files: list[str]


@dataclass(frozen=True)
class Answer:
    """``failed`` is why the model could not be measured, ``refused`` why the machine could not; else both are ""."""

    measured: Measured = field(default_factory=Measured)
    failed: str = ""
    refused: str = ""
    predictions: int = 0  # bytes that follow


def say(stream: Stream, message: object) -> None:
    """Raises ``Broken``."""
    content = msgspec.json.encode(message)
    write(stream, len(content).to_bytes(8, "big") + content)


def hear(stream: Stream, kind: type[Message]) -> Message:
    """Raises ``Broken``, also at the end of the stream."""
    length = int.from_bytes(b"".join(chunks(stream, 8)), "big")
    if length > _LONGEST:
        raise Broken("it does not speak as Forwardpass does")
    try:
        return msgspec.json.decode(b"".join(chunks(stream, length)), type=kind)
    except msgspec.MsgspecError as error:
        raise Broken(f"it does not speak as this version of Forwardpass does: {error}") from None


def skip_noise(stream: Stream) -> None:
    """Read up to the mark. Raises ``Broken`` where there is none."""
    heard = b""
    while not heard.endswith(MARK):
        if len(heard) > _NOISE:
            raise Broken("it prints too much before Forwardpass begins")
        heard += b"".join(chunks(stream, 1))


def write(stream: Stream, content: bytes) -> None:
    """All of it. Raises ``Broken``."""
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[stream.write(rest) or 0 :]
    except (OSError, ValueError) as error:
        raise Broken("the connection was closed") from error


def chunks(stream: Stream, size: int) -> Iterator[bytes]:
    """So many bytes of the stream, in pieces. Raises ``Broken`` where it ends before."""
    while size:
        try:
            piece = stream.read(min(size, CHUNK))
        except (OSError, ValueError) as error:
            raise Broken("the connection was closed") from error
        if not piece:
            raise Broken("the connection was closed")
        size -= len(piece)
        yield piece


def send_file(stream: Stream, path: Path) -> None:
    """Raises ``Broken``, and ``OSError`` where the file cannot be read."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            write(stream, piece)


def file_of(path: Path) -> File:
    """A file's content in short."""
    with path.open("rb") as file:
        return File(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
