"""The file of an outbox: its tables, how it is opened, and what is done with one that is damaged.

How many bytes each kind takes is kept by triggers, in the transaction that changes it, so that it is exact at any
moment and after any crash.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

log = logging.getLogger(__name__)
OVERHEAD = 160  # bytes that an entry counts besides its body: its name, its times, the indexes
DAMAGED = ".damaged"  # how the name of a file ends that could not be read; the newest such one is kept
WAL_PAGES = 256  # of 4 KiB, after which the log is written into the file

# ruff: noqa: S608 - no words of others
_TABLES = f"""
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    at REAL NOT NULL, up REAL NOT NULL, boot TEXT NOT NULL, needs INTEGER NOT NULL, useful REAL NOT NULL,
    most_age REAL, aside TEXT);
CREATE INDEX IF NOT EXISTS by_kind ON entries (kind, useful, number);
CREATE INDEX IF NOT EXISTS set_aside ON entries (number) WHERE aside IS NOT NULL;
CREATE TABLE IF NOT EXISTS totals (kind TEXT PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS usage (
    model TEXT, version TEXT, minute INTEGER, up REAL NOT NULL, boot TEXT NOT NULL, requests INTEGER NOT NULL,
    failed INTEGER NOT NULL, rows INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (model, version, minute, boot));
CREATE TRIGGER IF NOT EXISTS entry_added AFTER INSERT ON entries BEGIN
    INSERT INTO totals VALUES (new.kind, 1, length(new.body) + {OVERHEAD}) ON CONFLICT (kind)
    DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes; END;
CREATE TRIGGER IF NOT EXISTS entry_gone AFTER DELETE ON entries BEGIN
    UPDATE totals SET entries = entries - 1, bytes = bytes - length(old.body) - {OVERHEAD} WHERE kind = old.kind; END;
CREATE TRIGGER IF NOT EXISTS entry_changed AFTER UPDATE OF body ON entries BEGIN
    UPDATE totals SET bytes = bytes - length(old.body) + length(new.body) WHERE kind = old.kind; END;
"""


def connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """The file, open and known to be whole, and whether another was set aside for it. Raises ``sqlite3.Error``."""
    try:
        return _open(path), False
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        set_aside(path, error)
        return _open(path), True


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it is the file's fault: not a full disk, not one that cannot be written now."""
    code = getattr(error, "sqlite_errorcode", None)  # set where SQLite itself says so
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path, why: sqlite3.Error) -> None:
    """Rename a damaged file, in place of one set aside before; its log goes along."""
    log.error("%s is damaged (%s): set aside as %s, a new outbox is begun", path, why, path.name + DAMAGED)
    for end in ("", "-wal"):
        file = path.with_name(path.name + end)
        if file.exists():
            file.replace(path.with_name(path.name + DAMAGED + end))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        db.execute(f"PRAGMA journal_size_limit={WAL_PAGES * 4096}")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            damage = sqlite3.DatabaseError(found)
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        db.executescript(_TABLES)
    except BaseException:
        db.close()
        raise
    return db
