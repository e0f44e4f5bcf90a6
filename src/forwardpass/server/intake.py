"""What devices tell this server, in one SQLite file: each entry once, and there before it is answered.

A device sends what its outbox holds, and sends it again where it heard no answer; ``(device, id)`` tells the second
time from the first. All of it may block, and may be called from any thread. Knows no protocol, and not what the
entries mean.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from forwardpass.errors import InvalidInput, InvalidSettings, Overloaded, TooLarge

FILE = "intake.sqlite"
KINDS = ("usage", "record", "sample", "escalation")
MOST_BYTES = 16 * 1024 * 1024  # of an upload, unpacked
MOST_ENTRIES = 10_000  # of an upload
MOST_BODY = 4 * 1024 * 1024  # bytes of an entry's body
PAGE, MOST_PAGE = 100, 1000  # entries of a page
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    at REAL NOT NULL, happened REAL, arrived REAL NOT NULL, body BLOB NOT NULL, UNIQUE (device, id));
CREATE INDEX IF NOT EXISTS by_device ON entries (device, kind, number);
CREATE TABLE IF NOT EXISTS devices (
    device TEXT NOT NULL, kind TEXT NOT NULL, entries INTEGER NOT NULL, PRIMARY KEY (device, kind));
CREATE TABLE IF NOT EXISTS contacts (device TEXT PRIMARY KEY, first REAL NOT NULL, last REAL NOT NULL);
"""


class SentEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry as it is sent. ``at`` is by the device's clock, ``up`` the seconds since its start ``boot``."""

    id: str
    kind: str
    at: float
    body: msgspec.Raw
    up: float | None = None
    boot: str | None = None


class Upload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device's entries, in its order; ``at``, ``up`` and ``boot`` say when it sent them, by its own clocks."""

    device: str
    entries: list[msgspec.Raw]
    at: float | None = None
    up: float | None = None
    boot: str | None = None


class _Named(msgspec.Struct, frozen=True):
    """The least that an entry must have, so that it can be refused by name."""

    id: str


class Intake:
    """Opened by the folder that its file lies in. Raises ``InvalidSettings`` where that cannot be used."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        if not folder.is_dir():
            raise InvalidSettings(f"--intake {folder}: there is no such folder; make it, or choose another")
        self._lock = threading.Lock()
        self._clock = clock
        try:
            self._db = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # the device forgets what is answered
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise InvalidSettings(f"--intake {folder}: {FILE} cannot be used: {error}") from None

    def take(self, raw: bytes, encoding: str = "") -> dict[str, Any]:
        """Keep the entries of an upload; the ids that are here now, how many were before, and which never will be.

        ``encoding`` is "", "identity" or "gzip". Raises ``InvalidInput`` or ``TooLarge`` where nothing of it can be
        taken, ``Overloaded`` where the disk does not take it.
        """
        upload = _decoded(_unpacked(raw, encoding))
        arrived = self._clock()
        rows: list[tuple[Any, ...]] = []
        refused: list[dict[str, str]] = []
        for number, item in enumerate(upload.entries):
            try:
                entry = _entry(item, number)
                rows.append((entry.id, entry.kind, entry.at, _happened(upload, entry, arrived), bytes(entry.body)))
            except _Refused as error:
                refused.append({"id": error.id, "reason": error.message})
        new = self._add(upload.device, rows, arrived)
        return {"accepted": [row[0] for row in rows], "duplicates": len(rows) - new, "refused": refused}

    def counts(self) -> list[dict[str, Any]]:
        """Every device: its entries by kind, when it was heard of first and last (seconds since the epoch)."""
        with self._transaction() as db:
            contacts = db.execute("SELECT device, first, last FROM contacts ORDER BY device").fetchall()
            counted = db.execute("SELECT device, kind, entries FROM devices ORDER BY device, kind").fetchall()
        return [
            {"device": device, "first_contact": first, "last_contact": last,
             "entries": {kind: number for of, kind, number in counted if of == device}}
            for device, first, last in contacts
        ]  # fmt: skip

    def entries(
        self, device: str | None = None, kind: str | None = None, after: int = 0, limit: int = PAGE
    ) -> list[dict[str, Any]]:
        """A page of entries in their order of arrival, behind number ``after``; a ``body`` is JSON, as it came."""
        wanted = [(name, value) for name, value in (("device", device), ("kind", kind)) if value is not None]
        where = "".join(f" AND {name} = ?" for name, _ in wanted)
        with self._transaction() as db:
            found = db.execute(
                f"SELECT number, device, id, kind, at, happened, arrived, body FROM entries WHERE number > ?{where} "  # noqa: S608 - our own names
                "ORDER BY number LIMIT ?",
                (after, *(value for _, value in wanted), min(limit, MOST_PAGE)),
            ).fetchall()
        names = ("number", "device", "id", "kind", "at", "happened", "arrived", "body")
        return [dict(zip(names, row, strict=True)) for row in found]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _add(self, device: str, rows: Sequence[tuple[Any, ...]], arrived: float) -> int:
        """In one transaction; how many were not here before."""
        with self._transaction() as db:
            new = 0
            for id, kind, at, happened, body in rows:  # noqa: A001 - as it is called everywhere
                added = db.execute(
                    "INSERT OR IGNORE INTO entries (device, id, kind, at, happened, arrived, body) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (device, id, kind, at, happened, arrived, body),
                ).rowcount
                new += added
                if added:
                    db.execute(
                        "INSERT INTO devices VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET entries = entries + 1",
                        (device, kind),
                    )
            db.execute(
                "INSERT INTO contacts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last",
                (device, arrived, arrived),
            )
        return new

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Raises ``Overloaded`` where the disk does not do it; then nothing has changed."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise Overloaded(f"the intake cannot be used: {error}; try again later", retry_after=30.0) from None


class _Refused(InvalidInput):
    """One entry is wrong; the others are not touched by that."""

    def __init__(self, id: str, message: str) -> None:
        super().__init__(message)
        self.id = id


def _unpacked(raw: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        unpacked = raw
    elif encoding == "gzip":
        unpacked = _gunzipped(raw)
    else:
        raise InvalidInput(f"content-encoding {encoding!r} is not taken; send gzip, or none")
    if len(unpacked) > MOST_BYTES:
        raise TooLarge(f"the upload is over {MOST_BYTES} bytes, unpacked; send fewer entries at a time")
    return unpacked


def _gunzipped(raw: bytes) -> bytes:
    """At most a little over ``MOST_BYTES`` of it."""
    stream = zlib.decompressobj(wbits=31)
    try:
        unpacked = stream.decompress(raw, MOST_BYTES + 1)
    except zlib.error as error:
        raise InvalidInput(f"the body is not valid gzip: {error}") from None
    if len(unpacked) <= MOST_BYTES and (not stream.eof or stream.unused_data):
        raise InvalidInput("the body is not one whole gzip stream")
    return unpacked


def _decoded(body: bytes) -> Upload:
    try:
        upload = msgspec.json.decode(body.decode(), type=Upload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the upload cannot be read: {error}") from None
    if not _NAME.fullmatch(upload.device):
        raise InvalidInput(
            f"device {upload.device[:200]!r}: a name has 1 to 128 letters, digits, dots, colons or dashes"
        )
    if len(upload.entries) > MOST_ENTRIES:
        raise TooLarge(f"{len(upload.entries)} entries are over {MOST_ENTRIES}; send fewer at a time")
    return upload


def _entry(raw: msgspec.Raw, number: int) -> SentEntry:
    """Raises ``_Refused`` where it can be refused by its id, ``InvalidInput`` where it has none."""
    try:
        named = msgspec.json.decode(raw, type=_Named)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidInput(f"entry {number} has no id that can be read: {error}") from None
    if not _NAME.fullmatch(named.id):
        raise InvalidInput(
            f"entry {number}: id {named.id[:200]!r} is not 1 to 128 letters, digits, dots, colons or dashes"
        )
    try:
        entry = msgspec.json.decode(raw, type=SentEntry)
        if not isinstance(msgspec.json.decode(entry.body), dict):
            raise _Refused(named.id, "its body is no JSON object")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _Refused(named.id, str(error)) from None
    if entry.kind not in KINDS:
        raise _Refused(named.id, f"kind {entry.kind[:200]!r} is none of {', '.join(KINDS)}")
    if len(entry.body) > MOST_BODY:
        raise _Refused(named.id, f"its body is over {MOST_BODY} bytes")
    return entry


def _happened(upload: Upload, entry: SentEntry, arrived: float) -> float | None:
    """When it happened by this server's clock, where the device has not been started again since."""
    if upload.up is None or entry.up is None or not upload.boot or entry.boot != upload.boot or entry.up > upload.up:
        return None
    return arrived - (upload.up - entry.up)
