"""What the disk did not take: why, and what was lost by it, from the first failure until entries are taken again.

Said once each in the log, and shown as long as it lasts. Knows no disk.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter

from forwardpass.edge.outbox.entry import Kind

log = logging.getLogger(__name__)


class Trouble:
    """``error`` is why the disk does not do what it should, "" where it does; ``lost`` is by kind, since the start."""

    def __init__(self) -> None:
        self.error = ""
        self.lost = Counter[str]()
        self._refused = False  # something was to be written, and was not
        self._before = Counter[str]()  # lost when the error came up

    def lose(self, kind: Kind) -> None:
        self.lost[kind.value] += 1

    def failed(self, error: Exception) -> str:
        """The disk did not do something; why."""
        why = str(error) or type(error).__name__
        if not self.error:
            known = isinstance(error, sqlite3.Error | OSError)
            text = "the outbox cannot be used: %s; predictions go on, what is lost is counted"
            log.error(text, why, exc_info=None if known else error)
            self._before = self.lost.copy()
        self.error = why
        return why

    def refused(self) -> None:
        """What it did not do was to write."""
        self._refused = True

    def read(self) -> None:
        """It does something again."""
        if not self._refused:
            self._end()

    def written(self, *, entries: bool) -> None:
        """It takes something again. Where things were lost, only entries show that: an almost full disk takes less."""
        if entries or self.lost == self._before:
            self._refused = False
            self._end()

    def text(self) -> str:
        """For the status: what is wrong, and what was lost since."""
        lost = self._meanwhile()
        return f"{self.error}; lost since: {lost}" if self.error and lost else self.error

    def _end(self) -> None:
        if self.error:
            log.warning("the outbox can be used again; lost meanwhile: %s", self._meanwhile() or "nothing")
        self.error = ""

    def _meanwhile(self) -> str:
        lost = self.lost - self._before
        return ", ".join(f"{number} {kind}s" for kind, number in lost.items())
