"""The ledger: which parts a job has, and how far each has come. One SQLite file, written by one process.

What it says of a part that is done is checked against the committed part when a job is resumed:
the files are the truth, the ledger is how it is found quickly. Knows no model and no format.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats.base import Piece

_TABLES = """
CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY, pieces BLOB NOT NULL, rows INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
    worker TEXT NOT NULL DEFAULT '', lease REAL NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    result BLOB, reason TEXT NOT NULL DEFAULT '');
"""


class State(StrEnum):
    """How far a part has come."""

    WAITING = "waiting"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"  # set aside: it failed as often as it may


class PartResult(msgspec.Struct, frozen=True):
    """What became of a part: rows read, written, set aside and left out, and the committed file.

    ``left_out`` are the rows that ``where`` does not want. ``seconds`` is the time from taking the part to
    having committed it, ``compute`` that of the engine in it. ``digest`` is the SHA-256 of the part's file.
    """

    rows: int
    written: int
    rejected: int
    left_out: int
    digest: str
    bytes: int
    seconds: float
    compute: float
    rejected_digest: str = ""


class Part(msgspec.Struct, frozen=True):
    """Some pieces of the input, in order, and the one file of predictions they become."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


class Ledger:
    """Open for one run at a time: raises ``InvalidInput`` where another process has it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InvalidInput(f"{path.parent}: another run works on this output; wait for it, or stop it") from None
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLES)

    def facts(self) -> dict[str, str]:
        """What the job was planned from, by name; empty before it was."""
        return dict(self._db.execute("SELECT name, value FROM job"))

    def plan(self, facts: dict[str, str], parts: Sequence[Part]) -> None:
        """Write down all parts at once."""
        with self._transaction():
            self._db.executemany("INSERT INTO job VALUES (?, ?)", list(facts.items()))
            rows = [(part.number, msgspec.msgpack.encode(part.pieces), part.rows) for part in parts]
            self._db.executemany("INSERT INTO parts (number, pieces, rows) VALUES (?, ?, ?)", rows)

    def plan_again(self, facts: dict[str, str], parts: Sequence[Part]) -> None:
        """Some facts have changed, and with them the pieces of some parts, which wait again."""
        with self._transaction():
            self._db.executemany("UPDATE job SET value = ? WHERE name = ?", [(facts[name], name) for name in facts])
            for part in parts:
                pieces = msgspec.msgpack.encode(part.pieces)
                self._db.execute(
                    "UPDATE parts SET pieces = ?1, rows = ?2, state = ?3, attempts = 0, result = NULL "
                    "WHERE number = ?4 AND pieces != ?1",
                    (pieces, part.rows, State.WAITING, part.number),
                )

    def recover(self) -> None:
        """A new run: what was leased is free again, and what had failed is tried again."""
        self._db.execute(
            "UPDATE parts SET state = ?, attempts = 0, reason = '' WHERE state IN (?, ?)",
            (State.WAITING, State.LEASED, State.FAILED),
        )

    def done(self) -> Iterator[tuple[int, PartResult]]:
        """The parts that are done, and what became of them."""
        found = self._db.execute("SELECT number, result FROM parts WHERE state = ? ORDER BY number", (State.DONE,))
        for number, result in found.fetchall():
            yield number, msgspec.msgpack.decode(result, type=PartResult)

    def failed(self) -> list[tuple[int, str, int]]:
        """Number, reason and rows of the parts that were set aside."""
        rows = "SELECT number, reason, rows FROM parts WHERE state = ? ORDER BY number"
        return self._db.execute(rows, (State.FAILED,)).fetchall()

    def lease(self, worker: str, seconds: float) -> Part | None:
        """The first part that waits, given to a worker; None where none waits."""
        row = self._db.execute(
            "UPDATE parts SET state = ?, worker = ?, lease = ?, attempts = attempts + 1 WHERE number = "
            "(SELECT number FROM parts WHERE state = ? ORDER BY attempts, number LIMIT 1) RETURNING number, pieces",
            (State.LEASED, worker, time.time() + seconds, State.WAITING),
        ).fetchone()
        return None if row is None else Part(row[0], msgspec.msgpack.decode(row[1], type=tuple[Piece, ...]))

    def renew(self, number: int, seconds: float) -> None:
        """The worker that has a part goes on with it."""
        self._db.execute("UPDATE parts SET lease = ? WHERE number = ?", (time.time() + seconds, number))

    def commit(self, number: int, result: PartResult) -> None:
        """A part is committed."""
        self._db.execute(
            "UPDATE parts SET state = ?, result = ?, reason = '' WHERE number = ?",
            (State.DONE, msgspec.msgpack.encode(result), number),
        )

    def fail(self, number: int, reason: str, attempts: int) -> bool:
        """An attempt failed: the part waits again or, after so many ``attempts``, is set aside. Whether it is."""
        row = self._db.execute(
            "UPDATE parts SET reason = ?, state = CASE WHEN attempts >= ? THEN ? ELSE ? END WHERE number = ? "
            "RETURNING state",
            (reason, attempts, State.FAILED, State.WAITING, number),
        ).fetchone()
        return bool(row[0] == State.FAILED)

    def reopen(self, number: int) -> None:
        """A part that was done is not there any more."""
        self._db.execute("UPDATE parts SET state = ?, attempts = 0 WHERE number = ?", (State.WAITING, number))

    def count(self) -> dict[State, tuple[int, int]]:
        """Parts and their rows in each state."""
        found = self._db.execute("SELECT state, COUNT(*), SUM(rows) FROM parts GROUP BY state")
        return {State(state): (parts, rows) for state, parts, rows in found}

    def parts(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM parts").fetchone()[0])

    def close(self) -> None:
        self._db.close()
        self._lock.close()

    def _transaction(self) -> Any:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db
