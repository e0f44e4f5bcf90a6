"""The ledger of a search: what it is made from, and every candidate that is done with, a line of JSON each.

Appended and synced after each candidate, so that an interrupted search goes on where it was. A last line that was cut
short counts as not written. Knows no models.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from forwardpass.errors import InvalidInput
from forwardpass.jobs.plan import require_same
from forwardpass.optimize.results import Entry


class Ledger:
    """``entries`` are the candidates that are done with, in order."""

    def __init__(self, path: Path) -> None:
        self.entries: list[Entry] = []
        self._path = path

    def begin(self, facts: dict[str, str]) -> None:
        """A new search, made from these facts."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._append({"facts": facts})

    def resume(self, facts: dict[str, str]) -> None:
        """Take up a search, or begin one. Raises ``InvalidInput`` that names what has changed since."""
        lines = self._lines()
        if not lines:
            self.begin(facts)
            return
        require_same(lines[0]["facts"], facts, str(self._path.parent))
        self.entries = [msgspec.convert(line, Entry) for line in lines[1:]]
        self._path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))

    def add(self, entry: Entry) -> None:
        """A candidate is done with."""
        self._append(entry)
        self.entries.append(entry)

    def _append(self, line: Any) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        lines: list[dict[str, Any]] = []
        content = self._path.read_bytes().split(b"\n")
        for number, line in enumerate(content, 1):
            try:
                lines += [msgspec.json.decode(line)] if line else []
            except msgspec.DecodeError:
                if number == len(content):
                    break
                raise InvalidInput(
                    f"{self._path}: line {number} is no line of a ledger; remove the folder to begin anew"
                ) from None
        return lines
