"""The jobs that a server takes: kept in a file, run one after the other beside it, taken up again after a restart.

Each is a process of its own, ``forwardpass run … --url``, whose rows the server predicts in the background
of its live requests. Nothing here touches a row or knows HTTP; a thread waits for the process.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forwardpass.errors import InvalidInput, InvalidSettings, NotFound
from forwardpass.jobs.job import Layout
from forwardpass.jobs.service.files import FileStore
from forwardpass.jobs.service.job_request import Places
from forwardpass.jobs.service.request_batch import publish
from forwardpass.jobs.service.store import JobState, JobStore, ServerJob, shown
from forwardpass.jobs.storage import is_remote

log = logging.getLogger(__name__)

NICE = 10  # live requests go first on the processor as well
DEATHS = 3  # of a job's process without a word, before the job has failed
LOOK = 0.5  # seconds between looks whether another server has let go of the folder
ENDING = 10.0  # seconds in which a process that was told to end has ended
FILES = ".files"  # within the folder of jobs: what callers handed in, and what batches answered
LIVING = (JobState.QUEUED, JobState.RUNNING)

Locate = Callable[[str, str | None], tuple[str, str, Path]]


class JobService:
    """Jobs over what lies under a folder, run on the server at ``url``.

    ``start`` once the server answers, ``stop`` before it ends. While another server runs the jobs of the same folder,
    they only wait here.
    """

    def __init__(self, folder: Path, url: str, prefixes: tuple[str, ...] = ()) -> None:
        """Raises ``InvalidSettings`` where the folder cannot be used."""
        self.places = Places(folder, prefixes)
        self._url = url
        try:
            self.files = FileStore(self.places.folder / FILES)
            self.store = JobStore(self.places.folder / ".jobs.sqlite")
            self._lock = (self.places.folder / ".jobs.lock").open("w")
        except (OSError, sqlite3.Error) as error:
            raise InvalidSettings(
                f"--jobs {folder}: cannot be used: {error}; name a folder that can be written"
            ) from None
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._running = ""
        self._progress: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    # For callers

    def create(self, body: Any, locate: Locate) -> dict[str, Any]:
        """Take a job. ``locate`` gives name, version and path of a model that the server has, or raises ``NotFound``.

        Raises ``InvalidInput`` for all that can be found wrong before the job runs.
        """
        request = self.places.check(body)
        version = None if request.version is None else str(request.version)
        name, found, path = locate(request.model, version)
        with self._guard:
            for other in self.store.all(LIVING):
                if other.request is not None and Layout(other.request.output).output == Layout(request.output).output:
                    raise InvalidInput(f"output {request.output!r}: job {other.id} is {other.state} and writes there")
            job = ServerJob(f"job-{secrets.token_hex(8)}", name, found, os.path.abspath(path), request, time.time())
            self.add(job)
        return shown(job)

    def add(self, job: ServerJob) -> None:
        """Take a job as it is."""
        self.store.add(job)
        self._changed.set()

    def list(self) -> list[dict[str, Any]]:
        """All jobs that are known, newest first, without their manifests."""
        return [{**self._shown(job), "manifest": None} for job in self.store.all() if job.request is not None]

    def get(self, id: str) -> dict[str, Any]:
        """Raises ``NotFound``."""
        return self._shown(self._find(id))

    def cancel(self, id: str) -> dict[str, Any]:
        """End a job; what it has committed stays. One that has ended stays as it is. Raises ``NotFound``."""
        job = self.store.change(id, LIVING, state=JobState.CANCELLED, finished=time.time())
        with self._guard:
            if self._running == id and self._process is not None:
                self._process.terminate()
        return self._shown(job) if job.request is not None else {}

    def runs(self, id: str) -> bool:
        """Whether this job's process lives."""
        return id == self._running

    def progress_of(self, id: str) -> dict[str, Any] | None:
        """What the job that runs said last, where it is this one."""
        return self._progress if id == self._running else None

    # For the server

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the job that runs; the next server on this folder goes on with it."""
        self._stopping.set()
        self._changed.set()
        with self._guard:
            if self._process is not None:
                self._process.terminate()
        if self._thread.is_alive():
            self._thread.join(ENDING)
        if self._process is not None:
            self._process.kill()
            self._thread.join(ENDING)
        self.store.close()
        self._lock.close()

    def _find(self, id: str) -> ServerJob:
        job = self.store.find(id)
        if job.request is None:
            raise NotFound(f"there is no job {id!r}; it is a batch: GET /v1/batches/{id}")
        return job

    def _shown(self, job: ServerJob) -> dict[str, Any]:
        return shown(job, self.progress_of(job.id))

    # The thread

    def _run(self) -> None:
        if not self._own_the_folder():
            return
        for job in self.store.all([JobState.RUNNING]):
            log.info("job %s is taken up again", job.id)
            self.store.change(job.id, [JobState.RUNNING], state=JobState.QUEUED)
        while not self._stopping.is_set():
            self._changed.clear()
            waiting = self.store.all([JobState.QUEUED])
            if not waiting:
                self._changed.wait()
                continue
            try:
                self._do(waiting[-1])
            except Exception as error:  # whatever one job meets, the next ones run
                log.exception("job %s failed", waiting[-1].id)
                self._end(waiting[-1].id, JobState.FAILED, error={"kind": type(error).__name__, "message": str(error)})

    def _own_the_folder(self) -> bool:
        """Wait until no other server runs jobs here, nor a job that such a server left behind; whether to go on.

        A job's process inherits the lock, so it is free only when that has ended as well.
        """
        told = False
        while not self._stopping.is_set():
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not told:
                    log.warning("jobs wait: another server runs those of %s", self.places.folder)
                told = True
                self._stopping.wait(LOOK)
            else:
                return True
        return False

    def _do(self, job: ServerJob) -> None:
        started = self.store.change(job.id, [JobState.QUEUED], state=JobState.RUNNING, started=time.time())
        if started.state is not JobState.RUNNING:
            return
        with self._guard:
            self._running, self._progress = job.id, None
            self._process = process = self._spawn(job)
        if self._stopping.is_set() or self.store.find(job.id).state is JobState.CANCELLED:
            process.terminate()
        try:
            last = self._listen(job.id, process)
            status = process.wait()
        finally:
            with self._guard:
                progress, self._progress = self._progress, None
                self._process, self._running = None, ""
        self._settle(job.id, last, status, progress)

    def _spawn(self, job: ServerJob) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(job, self._url),
            cwd=self.places.folder,
            env={**os.environ, "PYTHONSAFEPATH": "1"},  # what lies in the folder is data, and no code
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[self._lock.fileno()],
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        return process

    def _listen(self, id: str, process: subprocess.Popen[str]) -> dict[str, Any]:
        """The last event that it tells."""
        last: dict[str, Any] = {}
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    last = json.loads(line)
                except ValueError:  # it was killed while it wrote
                    continue
                if last["event"] == "progress":
                    self._progress = {name: value for name, value in last.items() if name != "event"}
                    if self.store.find(id).state is JobState.CANCELLED:  # also by another server
                        process.terminate()
        return last

    def _settle(self, id: str, last: dict[str, Any], status: int, progress: dict[str, Any] | None) -> None:
        """Its process has ended."""
        match last.get("event"):
            case "done":
                self._end(id, JobState.DONE, manifest=last["manifest"], progress=_complete(last["manifest"], progress))
            case "failed":
                error = {"kind": last["kind"], "message": last["error"]}
                if "line" in last:
                    error["line"] = last["line"]
                self._end(id, JobState.FAILED, error=error, progress=progress)
            case _:
                self._ended_without_a_word(id, status)

    def _ended_without_a_word(self, id: str, status: int) -> None:
        job = self.store.find(id)
        if job.state is JobState.CANCELLED and job.batch is not None:  # its answers so far can be fetched
            self.store.change(id, [job.state], manifest=publish(id, self.files))
        if self._stopping.is_set():
            self.store.change(id, [JobState.RUNNING], state=JobState.QUEUED)
            return
        deaths = job.deaths + 1
        if deaths < DEATHS:
            self.store.change(id, [JobState.RUNNING], state=JobState.QUEUED, deaths=deaths)
            self._stopping.wait(LOOK)
            return
        why = f"signal {-status}" if status < 0 else f"exit status {status}"
        message = f"the job's process ended {deaths} times ({why}); the server's log may say why"
        self._end(id, JobState.FAILED, error={"kind": "BackendFailed", "message": message})

    def _end(self, id: str, state: JobState, **facts: Any) -> None:
        self.store.change(id, [JobState.RUNNING], state=state, finished=time.time(), **facts)


def _complete(manifest: dict[str, Any], progress: dict[str, Any] | None) -> dict[str, Any]:
    """The progress of a job that is done; what was told last is a second old."""
    if "rows_in" not in manifest:  # of a batch of requests, which tells as much itself
        return progress or {}
    rows, parts = manifest["rows_in"], len(manifest["parts"])
    counts = {"rows_done": rows, "rows": rows, "rejected": manifest["rejected"], "parts_done": parts, "parts": parts}
    return {"rate": None, **(progress or {}), **counts, "parts_failed": 0, "remaining": 0.0}


def command(job: ServerJob, url: str) -> list[str]:
    """What runs a job, from the folder of jobs. It begins or goes on, as the case may be."""
    python = [sys.executable, "-m"]
    if job.batch is not None:
        batch = job.batch
        flags = {"url": url, "files": FILES, "id": job.id, "input": batch.input_file, "endpoint": batch.endpoint}
        asked = [f"--{name}={value}" for name, value in {**flags, "expires": batch.expires}.items()]
        return [*python, "forwardpass.jobs.service.request_batch", *asked]
    request = job.request
    assert request is not None, "a job is one or the other"
    run = [*python, "forwardpass", "run", f"--url={url}", "--json", "--resume", *request.options()]
    if is_remote(request.output):  # the ledger of a job in an object store lies here
        run.append(f"--ledger=.ledgers/{job.id}.sqlite")
    return [*run, "--", job.path, *request.inputs, request.output]
