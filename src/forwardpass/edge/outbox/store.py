"""The entries of an outbox in one SQLite file: in order, bounded in bytes, there when a call returns.

Used by one thread, which may wait for the disk. Every call raises ``sqlite3.Error`` where the disk does not take it;
then nothing has changed, and the next call tries again. Knows no privacy and no network.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from forwardpass.edge.outbox import policy
from forwardpass.edge.outbox.entry import DeviceClock, Entry, Kind, Needs
from forwardpass.edge.outbox.schema import OVERHEAD, connect, is_damage, set_aside
from forwardpass.edge.outbox.tally import MINUTE, Minute, minute_of
from forwardpass.edge.prediction import new_id

# ruff: noqa: S608 - SQL is put together from our own words and question marks alone
log = logging.getLogger(__name__)
_FIELDS = "id, kind, body, at, up, boot, needs, useful, most_age"
_ADD_ENTRY = f"INSERT OR IGNORE INTO entries ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_USAGE = """INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests, failed = failed + excluded.failed, rows = rows + excluded.rows,
    seconds = seconds + excluded.seconds"""
_COUNT = "INSERT INTO counts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"


class Store:
    """Opened by its first use; ``most_bytes`` bounds what the entries take together (``schema.OVERHEAD``)."""

    def __init__(self, path: Path, most_bytes: int, clock: DeviceClock, allowed: Sequence[Needs]) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._clock = clock
        self._allowed = tuple(allowed)
        self._db: sqlite3.Connection | None = None
        self._said_over = False

    def append(self, entries: Sequence[Entry], usage: Sequence[Minute], counts: dict[str, int]) -> None:
        """Add all of these or nothing, then make room. An entry whose id is there already changes nothing."""
        with self._transaction() as db:
            rows = [_row(entry) for entry in entries]
            db.executemany(_ADD_ENTRY, rows)
            db.executemany(_ADD_USAGE, [_usage_row(minute, self._clock.boot) for minute in usage])
            db.executemany(_COUNT, list(counts.items()))
            self._seal(db)
            self._make_room(db)

    def next(
        self, kinds: Sequence[Kind], most_entries: int, most_bytes: int, without: Collection[str] = ()
    ) -> list[Entry]:
        """The oldest entries of these kinds, in order, at least one where there is any; none of the ids ``without``."""
        with self._transaction() as db:
            self._seal(db)
            marks = ", ".join("?" * len(kinds))
            found = db.execute(
                f"SELECT {_FIELDS} FROM entries WHERE aside IS NULL AND kind IN ({marks}) ORDER BY number LIMIT ?",
                (*kinds, most_entries + len(without)),
            )
            chosen: list[Entry] = []
            size = 0
            for row in found:
                if row[0] in without:
                    continue
                size += len(row[2])
                if len(chosen) == most_entries or (chosen and size > most_bytes):
                    break
                chosen.append(_entry(row))
        return chosen

    def remove(self, ids: Sequence[str], why: str) -> None:
        """They have done their work, or never will; counted under ``why`` and kind."""
        with self._transaction() as db:
            for name in ids:
                row = db.execute("DELETE FROM entries WHERE id = ? RETURNING kind", (name,)).fetchone()
                if row is not None:
                    db.execute(_COUNT, (f"{why}_{row[0]}", 1))
        with contextlib.suppress(sqlite3.Error), self._guarded() as db:
            db.execute("PRAGMA incremental_vacuum(256)").fetchall()

    def remove_expired(self) -> None:
        """What is past its time."""
        with self._transaction() as db:
            self._drop(db, policy.EXPIRED, "number", None, "expired")

    def set_aside(self, id: str, reason: str) -> None:
        """Never offer it again, but keep it for people to look at while there is room."""
        with self._transaction() as db:
            db.execute("UPDATE entries SET aside = ? WHERE id = ?", (reason[:1000], id))
            self._make_room(db)

    def replace(self, id: str, body: bytes) -> None:
        """Another body for the same entry."""
        with self._transaction() as db:
            db.execute("UPDATE entries SET body = ? WHERE id = ?", (body, id))
            self._make_room(db)

    def counts(self) -> dict[str, Any]:
        """What waits by kind, how many bytes it is, what was set aside, and what became of all others."""
        with self._guarded() as db:
            totals = db.execute("SELECT kind, entries, bytes FROM totals").fetchall()
            aside = dict(db.execute("SELECT kind, count(*) FROM entries WHERE aside IS NOT NULL GROUP BY kind"))
            counted = dict(db.execute("SELECT name, value FROM counts ORDER BY name"))
        there = {kind: entries for kind, entries, _ in totals}
        held = sum(size for _, _, size in totals)
        return {
            "waiting": {str(kind): there.get(kind, 0) - aside.get(kind, 0) for kind in Kind},
            "bytes": held,
            "most_bytes": self._most_bytes,
            "over": held > self._most_bytes,
            "set_aside": sum(aside.values()),
            "counts": counted,
        }

    def reasons(self) -> list[tuple[str, str]]:
        """Id and reason of what was set aside, oldest first."""
        with self._guarded() as db:
            return db.execute("SELECT id, aside FROM entries WHERE aside IS NOT NULL ORDER BY number").fetchall()

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    # Inside

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        """The open file; one that turns out to be damaged is set aside, and the next use begins a new one."""
        try:
            if self._db is None:
                self._db = self._begin()
            yield self._db
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                self.close()
                set_aside(self.path, error)
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")  # where SQLite has not done so itself
                raise

    def _begin(self) -> sqlite3.Connection:
        db, another = connect(self.path)
        try:
            if another:
                db.execute(_COUNT, ("damaged_files", 1))
            self._withhold(db)
        except BaseException:
            db.close()
            raise
        return db

    def _withhold(self, db: sqlite3.Connection) -> None:
        """What was put in while more was allowed must not leave any more."""
        marks = ", ".join("?" * len(self._allowed))
        gone = db.execute(f"DELETE FROM entries WHERE needs NOT IN ({marks})", self._allowed).rowcount
        if Needs.USAGE not in self._allowed:
            gone += db.execute("DELETE FROM usage").rowcount
        if gone:
            db.execute(_COUNT, ("withheld", gone))

    def _seal(self, db: sqlite3.Connection) -> None:
        """Minutes that are over become entries."""
        now = minute_of(self._clock)
        over = "minute <> ? OR boot <> ?"
        rows = db.execute(f"SELECT * FROM usage WHERE {over} ORDER BY up", (now, self._clock.boot)).fetchall()
        if not rows:
            return
        db.executemany(_ADD_ENTRY, [_row(_usage_entry(row)) for row in rows])
        db.execute(f"DELETE FROM usage WHERE {over}", (now, self._clock.boot))

    def _make_room(self, db: sqlite3.Connection) -> None:
        """Drop what is worth least until the rest fits; see ``policy``."""
        over = self._held(db) - self._most_bytes
        for condition, order in policy.DROPPED:
            if over <= 0:
                break
            over -= self._drop(db, condition, order, over, "dropped")
        self._say_over(over > 0)

    def _drop(self, db: sqlite3.Connection, condition: str, order: str, bytes: int | None, why: str) -> int:
        """Delete the first entries that are so, until that many bytes are free, or all; how many bytes are free."""
        clock = {"now": self._clock.wall(), "up": self._clock.up(), "boot": self._clock.boot}
        size = f"length(body) + {OVERHEAD}"
        found = db.execute(f"SELECT number, kind, {size} FROM entries WHERE {condition} ORDER BY {order}", clock)
        freed = 0
        chosen: list[tuple[int, str]] = []
        while bytes is None or freed < bytes:
            row = found.fetchone()
            if row is None:
                break
            chosen.append((row[0], row[1]))
            freed += row[2]
        found.close()
        db.executemany("DELETE FROM entries WHERE number = ?", [(number,) for number, _ in chosen])
        db.executemany(_COUNT, [(f"{why}_{kind}", 1) for _, kind in chosen])
        return freed

    def _held(self, db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT coalesce(sum(bytes), 0) FROM totals").fetchone()[0])

    def _say_over(self, over: bool) -> None:
        if over and not self._said_over:
            log.warning(
                "%s: usage alone is over %d bytes; it is never dropped, so the outbox grows",
                self.path,
                self._most_bytes,
            )
        self._said_over = over


def _row(entry: Entry) -> tuple[Any, ...]:
    useful = entry.useful if entry.kind is Kind.SAMPLE else 0.0
    return (
        entry.id, str(entry.kind), entry.body, entry.at, entry.up, entry.boot, int(entry.needs), useful, entry.most_age
    )  # fmt: skip


def _entry(row: tuple[Any, ...]) -> Entry:
    name, kind, body, at, up, boot, needs, useful, most_age = row
    return Entry(name, Kind(kind), body, at, up, boot, Needs(needs), useful, most_age)


def _usage_row(minute: Minute, boot: str) -> tuple[Any, ...]:
    counted = (minute.requests, minute.failed, minute.rows, minute.seconds)
    return (minute.model, minute.version, minute.minute, minute.up, boot, *counted)


def _usage_entry(row: tuple[Any, ...]) -> Entry:
    model, version, minute, up, boot, requests, failed, rows, seconds = row
    body = {
        "model": model, "version": version, "requests": requests, "failed": failed, "rows": rows,
        "seconds": round(seconds, 6),
    }  # fmt: skip
    return Entry(new_id(), Kind.USAGE, orjson.dumps(body), minute * MINUTE, up, boot, Needs.USAGE)
