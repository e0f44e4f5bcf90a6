"""The jobs of a server, in one SQLite file, so that they outlive it. A change is there once a call returns.

Several threads may use it, and for a moment two servers, one that begins and one that ends.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from forwardpass.errors import NotFound
from forwardpass.jobs.service.job_request import JobRequest

KEPT = 1000  # jobs that have ended, the newest
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, state TEXT NOT NULL, job BLOB NOT NULL);
"""


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class BatchRequest(msgspec.Struct, frozen=True):
    """The requests of a file, for one endpoint of the server. ``expires`` is seconds since the epoch."""

    input_file: str
    endpoint: str
    window: str
    expires: float
    metadata: dict[str, str] | None = None


class ServerJob(msgspec.Struct, frozen=True):
    """A job and what became of it. Times are seconds since the epoch. ``path`` is where its model lies,
    under the name that it is served by.

    Its work is a ``request`` over a data set, or a ``batch`` of requests, which names no model.
    ``progress`` and ``manifest`` are as ``forwardpass run --json`` tells them; ``error`` has ``kind`` and ``message``.
    ``deaths`` counts how often its process ended without a word.
    """

    id: str
    model: str
    version: str
    path: str
    request: JobRequest | None
    created: float
    state: JobState = JobState.QUEUED
    started: float | None = None
    finished: float | None = None
    progress: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    manifest: dict[str, Any] | None = None
    deaths: int = 0
    batch: BatchRequest | None = None


class JobStore:
    """Opened by ``path``, which is made where it is not there."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLE)

    def add(self, job: ServerJob) -> None:
        """Write down a new job, and forget the oldest of those that ended."""
        with self._lock:
            self._db.execute("INSERT INTO jobs (id, state, job) VALUES (?, ?, ?)", (job.id, job.state, _encoded(job)))
            self._db.execute(
                "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE state IN (?, ?, ?) "
                "ORDER BY number DESC LIMIT -1 OFFSET ?)",
                (JobState.DONE, JobState.FAILED, JobState.CANCELLED, KEPT),
            )

    def find(self, id: str) -> ServerJob:
        """Raises ``NotFound``."""
        with self._lock:
            return self._find(id)

    def all(self, states: Sequence[JobState] = tuple(JobState)) -> list[ServerJob]:
        """The jobs in these states, newest first."""
        marks = ", ".join("?" * len(states))
        with self._lock:
            rows = self._db.execute(f"SELECT job FROM jobs WHERE state IN ({marks}) ORDER BY number DESC", list(states))  # noqa: S608 - question marks
            return [_decoded(row[0]) for row in rows.fetchall()]

    def change(self, id: str, expected: Sequence[JobState], **changes: Any) -> ServerJob:
        """Change a job that is in one of these states; a job that is in another stays as it is. What it is now."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                job = self._find(id)
                if job.state in expected:
                    job = msgspec.structs.replace(job, **changes)
                    self._db.execute("UPDATE jobs SET state = ?, job = ? WHERE id = ?", (job.state, _encoded(job), id))
            finally:
                self._db.execute("COMMIT")
            return job

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _find(self, id: str) -> ServerJob:
        row = self._db.execute("SELECT job FROM jobs WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no job {id!r}; GET /v1/jobs lists them")
        return _decoded(row[0])


def shown(job: ServerJob, progress: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job as callers see it; ``progress`` is newer than what was written down."""
    request: dict[str, Any] = {
        name: value for name, value in msgspec.to_builtins(job.request).items() if value is not False and value != ""
    }
    return {
        "id": job.id,
        "state": job.state,
        "created": _time(job.created),
        "started": _time(job.started),
        "finished": _time(job.finished),
        **request,
        "model": job.model,
        "version": job.version,
        "progress": progress or job.progress,
        "error": job.error,
        "manifest": job.manifest,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _encoded(job: ServerJob) -> bytes:
    return msgspec.json.encode(job)


def _decoded(raw: bytes) -> ServerJob:
    return msgspec.json.decode(raw, type=ServerJob)
