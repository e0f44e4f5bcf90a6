"""What a worker on a cluster does: one part for each item that it is given, and a report for each.

Parts are done as the local workers do them, so that the bytes are the same. Knows no Ray: what is to
be heard meanwhile goes to a ``Notice``.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

import msgspec
import pyarrow as pa

from forwardpass.errors import ForwardpassError
from forwardpass.jobs.crew.base import ONE_THREAD
from forwardpass.jobs.crew.messages import Begin, Done, Failed, Loaded, Refused
from forwardpass.jobs.crew.worker import create_runner, fail
from forwardpass.jobs.engine import open_engine
from forwardpass.jobs.job import Job
from forwardpass.jobs.ledger import Part
from forwardpass.jobs.part import PartRunner
from forwardpass.jobs.storage import is_remote

PART, REPORT = "part", "report"  # columns of the items that go in and come out, each a JSON text
OFTEN = 0.5  # seconds between two reports of progress

Answer = Done | Failed | Refused


class Setup(msgspec.Struct, frozen=True):
    """What a worker needs to know. ``folder`` is where relative paths begin, None where there are none.

    A worker that makes no progress for ``lease`` seconds ends itself.
    """

    model: str
    threads: int
    folder: str | None
    begin: Begin
    lease: float


class Notice(Protocol):
    """Who hears of parts before they are done."""

    def begin(self, number: int) -> int:
        """A part is being begun; how often it was by now. It is known before this returns."""

    def tell(self, number: int, rows: int) -> None:
        """So many rows of it are done."""


class Watch:
    """Which parts were begun, and how many of their rows are done: an actor of its own, for one data set."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        self._rows[number] = 0
        self._begun[number] += 1
        return self._begun[number]

    def tell(self, number: int, rows: int) -> None:
        self._rows[number] = rows

    def look(self) -> dict[int, int]:
        """Rows done, by the number of the part."""
        return self._rows


class PartWorker:
    """Holds one engine. What it cannot do at all, it says as the report of each part."""

    def __init__(self, setup: bytes, notice: Notice) -> None:
        self._setup = msgspec.msgpack.decode(setup, type=Setup)
        self._notice = notice
        self._told = 0.0
        self._runner: PartRunner | Refused
        try:
            self._runner = _create_runner(self._setup)
        except (ForwardpassError, OSError) as error:
            self._runner = _refuse(error)

    def __call__(self, batch: pa.Table) -> pa.Table:
        parts = [msgspec.json.decode(text, type=Part) for text in batch[PART].to_pylist()]
        answers: list[tuple[int, Answer]] = [(part.number, self._do(part)) for part in parts]
        return pa.table({REPORT: pa.array([msgspec.json.encode(answer).decode() for answer in answers], pa.string())})

    def _do(self, part: Part) -> Answer:
        """One attempt. Ray tries again what a worker had when it died; whether to do so is the ledger's to say."""
        if isinstance(self._runner, Refused):
            return self._runner
        if self._notice.begin(part.number) > 1:
            return lost(self._setup)
        self._watchdog()
        try:
            return Done(self._runner.run(part, lambda rows: self._tell(part.number, rows)))
        except Exception as error:  # noqa: BLE001 - the batch loop of a job: whatever is raised, the part is told
            return fail(error)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _tell(self, number: int, rows: int) -> None:
        now = time.monotonic()
        if now - self._told >= OFTEN:
            self._told = now
            self._watchdog()
            self._notice.tell(number, rows)

    def _watchdog(self) -> None:
        """The process ends after the lease, also where something holds the interpreter."""
        faulthandler.dump_traceback_later(self._setup.lease, exit=True)


def lost(setup: Setup) -> Failed:
    """How a part is told whose worker never answered."""
    reason = f"the Ray worker that did it ended, or made no progress within {setup.lease:g} s"
    return Failed(reason, hopeless=False)


def describe(model: str, threads: int, folder: str | None) -> bytes:
    """Load a model once, to know what it takes: a ``Loaded`` or ``Refused`` as JSON."""
    try:
        _enter(folder)
        return msgspec.json.encode(Loaded(open_engine(model, threads).signature))
    except (ForwardpassError, OSError) as error:
        return msgspec.json.encode(_refuse(error))


def folder_of(model: str, job: Job | None = None) -> str | None:
    """The folder in which relative paths mean what they mean here; None where there are none."""
    names = [model, *([*job.input, job.output] if job else [])]
    if all(is_remote(name) or name.startswith("file://") or Path(name).is_absolute() for name in names):
        return None
    return str(Path.cwd())


def _create_runner(setup: Setup) -> PartRunner:
    _enter(setup.folder)
    os.environ.update(ONE_THREAD)
    pa.set_cpu_count(setup.threads)
    return create_runner(open_engine(setup.model, setup.threads), setup.begin)


def _enter(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _refuse(error: ForwardpassError | OSError) -> Refused:
    """Says where: not every node need have what is missing here."""
    return Refused(f"{os.uname().nodename}: {fail(error).reason}")
