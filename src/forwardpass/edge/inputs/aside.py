"""Where items that could not be answered are kept for a person: a folder, each with its reason beside it.

Bounded: of more than ``most`` items the oldest go. A folder that cannot be written to is not the
input's problem: the item is gone then, and its reason is still among the input's failures.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

log = logging.getLogger("forwardpass.edge")
MOST = 100  # items
REASON = ".error"


class Aside:
    """Items set aside under ``folder``; nowhere where that is None."""

    def __init__(self, folder: Path | None, most: int = MOST) -> None:
        self._folder = folder
        self._most = most

    async def put(self, name: str, item: bytes, reason: str) -> None:
        if self._folder is not None:
            await asyncio.to_thread(self._write, self._folder, f"{time.time_ns()}-{_file_name(name)}", item, reason)

    def _write(self, folder: Path, name: str, item: bytes, reason: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(item)
            (folder / (name + REASON)).write_text(reason + "\n", encoding="utf-8")
            for old in sorted(path for path in folder.iterdir() if path.suffix != REASON)[: -self._most]:
                old.unlink(missing_ok=True)
                old.with_name(old.name + REASON).unlink(missing_ok=True)
        except OSError as error:
            log.warning("a malformed item could not be set aside: %s", error)


def _file_name(name: str) -> str:
    """The name of a source as a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[-100:]
