"""The contract of a storage: list, read, and publish whole files at once.

A file is named as its user names it: a path, or a URL such as ``s3://bucket/key``. Nothing is ever
seen half written under its own name. Knows no formats and no jobs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: its name, its bytes, and a text that changes whenever its content may have changed."""

    name: str
    size: int
    version: str


class Storage(ABC):
    """Files by their names. Raises ``NotFound`` where one is not there, ``InvalidInput`` where the
    storage refuses (no permission, no such bucket), ``OSError`` where it fails (a full disk, a broken network)."""

    @abstractmethod
    def list(self, name: str) -> list[Entry]:
        """The file of that name, all files under the folder of that name, or those that match a glob.

        By name. A glob means files: ``*`` and ``?`` stay within one folder, ``**`` crosses folders.
        Files and folders whose name begins with ``.`` or ``_`` are left out, unless the pattern names them.
        Raises ``NotFound`` where there is none.
        """

    @abstractmethod
    def find(self, name: str) -> Entry | None:
        """One file, or None."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file to read, with ``seek``; what is not read is not fetched, but for a little read ahead.

        Reading raises ``InvalidInput`` where a storage sees that the file was replaced meanwhile.
        """

    @abstractmethod
    def publish(self, local: Path, name: str) -> None:
        """Give the content of a local file that name, all of it at once; ``local`` is gone afterwards.

        What had the name before is replaced in a file system, where a lock keeps a second run out. An object
        store, where none does, leaves it: the same content is as good, other content is refused
        (``InvalidInput``); ``delete`` first what is to be replaced. It is durable when this returns.
        """

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Write a small file unless there is one of that name; whether it was written."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def temporary(self, name: str) -> Path:
        """A local path, not taken by anyone and not listed, from which ``publish`` to ``name`` is quick.

        Who is killed before publishing leaves that file behind.
        """

    @abstractmethod
    def sweep(self, name: str) -> None:
        """Remove the temporary files that killed processes left for this name; nobody may be writing it now."""

    def read(self, name: str) -> bytes:
        """All of a small file."""
        with self.open(name) as file:
            return file.read()
