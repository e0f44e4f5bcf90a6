"""What the tests of the outbox share: a clock that is set by hand, and entries made in one line."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import orjson

from forwardpass.edge.outbox.entry import DeviceClock, Entry, Kind, Needs
from forwardpass.edge.outbox.schema import OVERHEAD
from forwardpass.edge.outbox.store import Store
from forwardpass.edge.prediction import Prediction, new_id
from forwardpass.types import Outcome, Record

START = 1_800_000_000.0
ALL = tuple(Needs)
KINDS = (Kind.USAGE, Kind.RECORD, Kind.SAMPLE)


@dataclass
class Time:
    """Both clocks of a device."""

    wall: float = START
    up: float = 1000.0
    boot: str = "boot-1"

    def clock(self) -> DeviceClock:
        return DeviceClock(lambda: self.wall, lambda: self.up, self.boot)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds

    def start_again(self, *, off: float = 0.0) -> None:
        """The device was off for so many seconds, and then started."""
        self.wall += off
        self.up = 5.0
        self.boot = f"{self.boot}-again"


def entry(
    kind: Kind = Kind.RECORD,
    size: int = 100,
    useful: float = 0.0,
    *,
    id: str | None = None,
    needs: Needs = Needs.OUTPUTS,
    most_age: float | None = None,
    time: Time | None = None,
) -> Entry:
    """An entry whose body has this size."""
    time = time or Time()
    body = orjson.dumps({"text": "x" * (size - len(b'{"text":""}'))})
    assert len(body) == size
    return Entry(id or new_id(), kind, body, time.wall, time.up, time.boot, needs, useful, most_age)


def prediction(number: int = 1, *, rows: int = 1, confidence: float | None = 0.95, **others: object) -> Prediction:
    facts: dict[str, object] = {
        "id": f"prediction-{number}",
        "source": "mqtt:motors/7",
        "at": START,
        "model": "motor",
        "version": "3",
        "instances": [{"speed": 1.5, "secret": "input"} for _ in range(rows)],
        "answers": [{"state": "healthy"} for _ in range(rows)],
        "confidence": confidence,
        "seconds": 0.25,
    }
    return Prediction(**{**facts, **others})  # type: ignore[arg-type]


def record(outcome: Outcome = Outcome.OK, *, rows: int = 1, compute: float = 0.25, door: str = "http") -> Record:
    """Of one request."""
    return Record("1", "motor", "3", door, outcome, 0.0, rows, 9, 9, 1.0, 0.0, 0.0, 0.0, 0.0, compute, rows)


def held(path: Path) -> int:
    """Bytes that the entries in a file count, one by one."""
    with sqlite3.connect(path) as db:
        (found,) = db.execute(f"SELECT coalesce(sum(length(body) + {OVERHEAD}), 0) FROM entries").fetchone()
    db.close()
    return int(found)


def waiting(store: Store) -> list[str]:
    """The ids of all that waits, in order."""
    return [found.id for found in store.next(tuple(Kind), 1_000_000, 10**12)]
