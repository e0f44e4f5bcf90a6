"""Files that callers hand to a server and fetch from it: requests of batches, and their answers.

Each is two files of the folder, its content and a few facts in JSON; whoever sees the facts sees all of
the content. Names are made here, never by callers.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

import msgspec

from forwardpass.errors import InvalidInput, NotFound

PURPOSES = ("batch",)
_ID = re.compile(r"file-[0-9a-z-]{1,64}")


class StoredFile(msgspec.Struct, frozen=True):
    """The facts of a file. ``created`` is seconds since the epoch."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created: int

    def shown(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileStore:
    """The files of one folder, which is made where it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def add(self, filename: str, purpose: str, content: bytes) -> StoredFile:
        """Keep a file. Raises ``InvalidInput`` for a purpose that is none."""
        if purpose not in PURPOSES:
            raise InvalidInput(f"purpose {purpose!r} is not offered; use {' or '.join(PURPOSES)}")
        made = f"file-{secrets.token_hex(12)}"
        self.part(made).write_bytes(content)
        return self.publish(made, filename, purpose)

    def part(self, id: str) -> Path:
        """Where the content of a file is written before it is published."""
        return self._folder / f"{_checked(id)}.part"

    def publish(self, id: str, filename: str, purpose: str) -> StoredFile:
        """What was written is a file from now on, all of it at once."""
        part, facts = self.part(id), self._facts(id)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, self.path(id))
        file = StoredFile(id, filename, purpose, self.path(id).stat().st_size, int(time.time()))
        temporary = facts.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(file))
        os.replace(temporary, facts)
        return file

    def find(self, id: str) -> StoredFile:
        """Raises ``NotFound``."""
        try:
            return msgspec.json.decode(self._facts(id).read_bytes(), type=StoredFile)
        except FileNotFoundError:
            raise NotFound(f"there is no file {id!r}; GET /v1/files lists them") from None

    def path(self, id: str) -> Path:
        """Where the content of a file lies."""
        return self._folder / _checked(id)

    def all(self) -> list[StoredFile]:
        """All files, newest first."""
        files = [msgspec.json.decode(path.read_bytes(), type=StoredFile) for path in self._folder.glob("file-*.json")]
        return sorted(files, key=lambda file: (file.created, file.id), reverse=True)

    def delete(self, id: str) -> None:
        """Raises ``NotFound``."""
        self.find(id)
        self._facts(id).unlink(missing_ok=True)
        self.path(id).unlink(missing_ok=True)

    def _facts(self, id: str) -> Path:
        return self._folder / f"{_checked(id)}.json"


def _checked(id: str) -> str:
    if not _ID.fullmatch(id):
        raise NotFound(f"there is no file {id!r}; GET /v1/files lists them")
    return id
