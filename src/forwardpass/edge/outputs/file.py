"""Messages appended to a file, a line of JSON each; the file is rotated by its size.

    alarms.jsonl ─► alarms.jsonl.1 ─► … ─► alarms.jsonl.N ─► gone

A line is whole or not there: what a full disk cut off is taken back. Knows no queue.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import orjson

from forwardpass.config import doc
from forwardpass.edge.outputs.base import Undelivered
from forwardpass.edge.outputs.queue import MAX_WAITING
from forwardpass.errors import InvalidSettings


@dataclass(frozen=True, kw_only=True)
class FileConfig:
    """An entry of ``outputs:`` with ``type: file``."""

    path: str = field(metadata=doc("file to append to; made where it is not there"))
    max_bytes: int = field(default=16 * 1024 * 1024, metadata=doc("size from which a new file is begun"))
    keep: int = field(default=3, metadata=doc("how many older files are kept"))
    max_waiting: int = field(default=MAX_WAITING, metadata=doc("most messages that wait; then the oldest are dropped"))

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.keep < 0:
            raise InvalidSettings(
                f"outputs: file: max_bytes must be at least 1 and keep at least 0, got {self.max_bytes}, {self.keep}"
            )


class FileSender:
    """See ``Sender``."""

    Config: ClassVar[type[FileConfig]] = FileConfig

    def __init__(self, config: FileConfig, home: Path) -> None:
        self.name = f"file:{config.path}"
        self._config = config
        self._path = home / config.path

    async def deliver(self, message: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(self._append, orjson.dumps(message) + b"\n")
        except OSError as error:
            raise Undelivered(str(error), again=True) from None

    async def close(self) -> None:
        return

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        size = self._path.stat().st_size if self._path.exists() else 0
        if size and size + len(line) > self._config.max_bytes:
            self._rotate()
            size = 0
        with self._path.open("ab", buffering=0) as file:
            try:
                _write(file.fileno(), line)
            except OSError:
                os.ftruncate(file.fileno(), size)
                raise

    def _rotate(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n + 1}") for n in range(self._config.keep))]
        if not self._config.keep:
            self._path.unlink()
        for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
            if newer.exists():
                newer.replace(older)


def _write(descriptor: int, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
