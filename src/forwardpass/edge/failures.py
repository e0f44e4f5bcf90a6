"""Bundles that were tried on this device and taken back: they are not tried again until that is forgotten.

One small file in the home, by the digest of what was in the bundle; the latest few are kept.
Knows neither how a bundle comes and is tried nor what is done about it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from forwardpass.edge import durable

KEPT = 16


class Failure(msgspec.Struct, frozen=True):
    """Which bundle failed, why, and when (seconds since the epoch). ``digest`` is that of its manifest.

    ``unfit``: for want of something on this device, such as a setting or a library, which may be there later.
    """

    digest: str
    version: str
    why: str
    at: float
    unfit: bool = False


class Failures:
    """The failures in a file; one that is missing or damaged holds none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Failure]:
        """The latest last."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Failure])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return []

    def find(self, digest: str) -> Failure | None:
        return next((failure for failure in self.all() if failure.digest == digest), None)

    def add(self, failure: Failure) -> None:
        kept = [other for other in self.all() if other.digest != failure.digest]
        self._write([*kept, failure][-KEPT:])

    def forget(self, those: Callable[[Failure], bool] = lambda failure: True) -> None:
        """Have those tried again. Where the disk does not take it, they are remembered on."""
        before = self.all()
        kept = [failure for failure in before if not those(failure)]
        if kept != before:
            with suppress(OSError):
                self._write(kept)

    def _write(self, failures: list[Failure]) -> None:
        durable.write(self._path, msgspec.json.encode(failures))
