"""Batches of requests, in the words of OpenAI's API: files are handed in, their requests run as a job.

A batch is one of the server's jobs, kept and run by ``service``; here it is made, and shown as OpenAI's
clients expect it. Knows no HTTP.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.jobs.service.files import FileStore
from forwardpass.jobs.service.request_batch import ENDPOINT
from forwardpass.jobs.service.service import JobService
from forwardpass.jobs.service.store import BatchRequest, JobState, ServerJob

WINDOWS = {"24h": 24 * 3600.0}
_STATUS = {
    JobState.QUEUED: "validating",
    JobState.RUNNING: "in_progress",
    JobState.DONE: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
_KEYS = ("input_file_id", "endpoint", "completion_window", "metadata")


class BatchService:
    """Batches over the files of a server that takes jobs."""

    def __init__(self, jobs: JobService) -> None:
        self.files: FileStore = jobs.files
        self._jobs = jobs

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take a batch. Raises ``InvalidInput``, or ``NotFound`` for a file that is not there."""
        if unknown := [key for key in body if key not in _KEYS]:
            raise InvalidInput(f"unknown key {unknown[0]!r}; a batch has {', '.join(_KEYS)}")
        window, endpoint = _text(body, "completion_window"), _text(body, "endpoint")
        if window not in WINDOWS:
            raise InvalidInput(f"completion_window {window!r} is not offered; use 24h")
        if not ENDPOINT.fullmatch(endpoint):
            raise InvalidInput(f"endpoint {endpoint!r}: use /v1/models/NAME:predict or /v2/models/NAME/infer")
        metadata = body.get("metadata")
        if metadata is not None and not (
            isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
        ):
            raise InvalidInput("metadata: must be an object of texts")
        file = self.files.find(_text(body, "input_file_id"))
        now = time.time()
        batch = BatchRequest(file.id, endpoint, window, now + WINDOWS[window], metadata)
        job = ServerJob(f"batch_{secrets.token_hex(12)}", "", "", "", None, now, batch=batch)
        self._jobs.add(job)
        return self._shown(job)

    def all(self) -> list[dict[str, Any]]:
        """All batches, newest first."""
        return [self._shown(job) for job in self._jobs.store.all() if job.batch is not None]

    def get(self, id: str) -> dict[str, Any]:
        """Raises ``NotFound``."""
        return self._shown(self._find(id))

    def cancel(self, id: str) -> dict[str, Any]:
        """End it; the answers that it has are kept. Raises ``NotFound``, or ``InvalidInput`` where it has ended."""
        job = self._find(id)
        if job.state.ended:
            raise InvalidInput(f"batch {id} is {_STATUS[job.state]}; there is nothing to cancel")
        self._jobs.cancel(id)
        return self.get(id)

    def _find(self, id: str) -> ServerJob:
        job = self._jobs.store.find(id)
        if job.batch is None:
            raise NotFound(f"there is no batch {id!r}; GET /v1/batches lists them")
        return job

    def _shown(self, job: ServerJob) -> dict[str, Any]:
        batch, facts = job.batch, job.manifest or {}
        assert batch is not None, "it was made as one"
        progress = self._jobs.progress_of(job.id) or job.progress or {}
        counts = {key: facts.get(key, progress.get(key, 0)) for key in ("total", "completed", "failed")}
        expired = bool(facts.get("expired"))
        ended = {self._status(job, expired): _seconds(job.finished)}
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "errors": _errors(job.error),
            "input_file_id": batch.input_file,
            "completion_window": batch.window,
            "status": self._status(job, expired),
            "output_file_id": facts.get("output"),
            "error_file_id": facts.get("errors"),
            "created_at": _seconds(job.created),
            "in_progress_at": _seconds(job.started),
            "expires_at": _seconds(batch.expires),
            **{f"{status}_at": ended.get(status) for status in ("completed", "failed", "expired", "cancelled")},
            "request_counts": counts,
            "metadata": batch.metadata,
        }

    def _status(self, job: ServerJob, expired: bool) -> str:
        if job.state is JobState.CANCELLED and self._jobs.runs(job.id):
            return "cancelling"
        return "expired" if expired else _STATUS[job.state]


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise InvalidInput(f"{key}: give a text, not {value!r}")
    return value


def _seconds(time: float | None) -> int | None:
    return None if time is None else int(time)


def _errors(error: dict[str, Any] | None) -> dict[str, Any] | None:
    if error is None:
        return None
    one = {"code": error["kind"], "message": error["message"], "line": error.get("line"), "param": None}
    return {"object": "list", "data": [one]}
