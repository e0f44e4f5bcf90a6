"""What was predicted in a minute, counted in memory until it is written with what else is put.

The minute is the device's own; where its clock jumps, a minute may be counted in two parts, whose sums are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from forwardpass.edge.outbox.entry import DeviceClock

MINUTE = 60.0


@dataclass(frozen=True)
class Minute:
    """Of one version, the requests, those of them that failed, their rows and their seconds."""

    model: str
    version: str
    minute: int
    up: float
    requests: int = 0
    failed: int = 0
    rows: int = 0
    seconds: float = 0.0

    def with_more(self, requests: int, failed: int, rows: int, seconds: float) -> Minute:
        return Minute(
            self.model, self.version, self.minute, self.up,
            self.requests + requests, self.failed + failed, self.rows + rows, self.seconds + seconds,
        )  # fmt: skip


@dataclass
class Tally:
    """What was counted and is not written yet."""

    clock: DeviceClock
    _minutes: dict[tuple[str, str, int], Minute] = field(default_factory=dict)

    def count(self, model: str, version: str, failed: bool, rows: int, seconds: float) -> None:
        """One request more."""
        minute = Minute(model, version, minute_of(self.clock), self.clock.up())
        self._add(minute.with_more(1, int(failed), rows, seconds))

    def take(self) -> list[Minute]:
        """All of it; nothing is counted now."""
        taken, self._minutes = list(self._minutes.values()), {}
        return taken

    def give_back(self, minutes: list[Minute]) -> None:
        """They could not be written."""
        for minute in minutes:
            self._add(minute)

    def __iter__(self) -> Iterator[Minute]:
        return iter(list(self._minutes.values()))

    def __bool__(self) -> bool:
        return bool(self._minutes)

    def _add(self, more: Minute) -> None:
        key = (more.model, more.version, more.minute)
        known = self._minutes.get(key)
        self._minutes[key] = more if known is None else known.with_more(
            more.requests, more.failed, more.rows, more.seconds
        )  # fmt: skip


def minute_of(clock: DeviceClock) -> int:
    """Minutes since the epoch, by the device."""
    return int(clock.wall() // MINUTE)
