"""Workers as processes of this machine, and the loop that gives them parts and hears of them.

A worker that dies is replaced, one that makes no progress is killed; its part waits again or, after
so many attempts, is set aside with the reason.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess

from forwardpass.config import available_cores
from forwardpass.errors import InvalidModel
from forwardpass.jobs.crew.base import ATTEMPTS, LEASE, LOADING, ONE_THREAD, Crew, Listener, settle
from forwardpass.jobs.crew.messages import (
    Begin,
    Do,
    Done,
    Failed,
    Loaded,
    Order,
    Progress,
    Refused,
    Report,
    receive_report,
    send,
)
from forwardpass.jobs.ledger import Ledger, Part
from forwardpass.types import Signature

ENDING = 5.0  # seconds in which a process that closed its pipe has ended


@dataclass
class Worker:
    """A process, and what it is doing. ``silent_since`` is when it last said something."""

    process: ForkServerProcess
    connection: Connection
    loaded: bool = False
    part: Part | None = None
    silent_since: float = field(default_factory=time.monotonic)


class LocalCrew(Crew):
    """Worker processes, forked with the heavy imports done."""

    def __init__(self, model: str, threads: int, lease: float = LEASE) -> None:
        self._model = model
        self._threads = threads
        self._lease = lease
        self._workers: list[Worker] = []
        self._begin: Begin | None = None
        self._signature: Signature | None = None

    def room(self) -> int:
        return max(1, available_cores() // self._threads)

    def start(self, count: int) -> None:
        while len(self._workers) < count:
            self._workers.append(self._spawn())

    def signature(self) -> Signature:
        worker = self._workers[0]
        if not worker.connection.poll(LOADING):
            raise InvalidModel(f"{self._model}: was not loaded within {LOADING:g} s")
        try:
            report = receive_report(worker.connection)
        except EOFError:
            raise InvalidModel(f"{self._model}: the worker that loaded it ended ({_end(worker)})") from None
        if isinstance(report, Refused):
            raise InvalidModel(report.message)
        assert isinstance(report, Loaded)
        worker.loaded = True
        self._signature = report.signature
        return report.signature

    def work(self, begin: Begin, ledger: Ledger, listener: Listener) -> None:
        self._begin = begin
        for worker in self._workers:
            if worker.loaded:
                self._order(worker, begin)
        while self._give(ledger) or any(worker.part is not None for worker in self._workers):
            ready = wait([worker.connection for worker in self._workers], timeout=0.2)
            for worker in list(self._workers):
                if worker.connection in ready:
                    self._hear(worker, ledger, listener)
                elif time.monotonic() - worker.silent_since > self._lease and (worker.part or not worker.loaded):
                    self._lost(worker, ledger, listener, f"made no progress within {self._lease:g} s")
            listener.tick()

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _spawn(self) -> Worker:
        context = _context()
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._model, self._threads, dict(os.environ)), daemon=True
        )
        process.start()
        theirs.close()
        return Worker(process, ours)

    def _give(self, ledger: Ledger) -> bool:
        """A part for every worker that is free; whether some part waits for a worker that is not ready yet."""
        waiting = False
        for worker in self._workers:
            if worker.part is not None:
                continue
            if not worker.loaded:
                waiting = True
                continue
            part = ledger.lease(f"{os.uname().nodename}:{worker.process.pid}", self._lease)
            if part is None:
                return False
            worker.part, worker.silent_since = part, time.monotonic()
            self._order(worker, Do(part))
        return waiting

    def _hear(self, worker: Worker, ledger: Ledger, listener: Listener) -> None:
        try:
            report = receive_report(worker.connection)
        except (EOFError, OSError):
            self._lost(worker, ledger, listener, "")
            return
        worker.silent_since = time.monotonic()
        if isinstance(report, Loaded):
            if report.signature != self._signature:
                raise InvalidModel(f"{self._model}: the model changed during the job (its inputs or outputs)")
            worker.loaded = True
            assert self._begin is not None
            self._order(worker, self._begin)
        elif isinstance(report, Refused):
            raise InvalidModel(report.message)
        elif worker.part is not None:
            self._heard(worker, worker.part, report, ledger, listener)

    def _heard(self, worker: Worker, part: Part, report: Report, ledger: Ledger, listener: Listener) -> None:
        if isinstance(report, Progress):
            ledger.renew(part.number, self._lease)
            listener.progress(part.number, report.rows)
        elif isinstance(report, Done | Failed):
            worker.part = None
            settle(part, report, ledger, listener)

    def _lost(self, worker: Worker, ledger: Ledger, listener: Listener, why: str) -> None:
        """A worker died or is given up: another takes its place, and its part waits again."""
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        if not worker.loaded:
            raise InvalidModel(f"{self._model}: a worker that loaded it ended ({why or _end(worker)})")
        if worker.part is not None:
            reason = why or f"the worker ended ({_end(worker)})"
            listener.failed(worker.part, reason, ledger.fail(worker.part.number, reason, ATTEMPTS))
        self._workers[self._workers.index(worker)] = self._spawn()

    def _order(self, worker: Worker, order: Order) -> None:
        with suppress(OSError):  # it died: its end of the pipe says so next
            send(worker.connection, order)


def _end(worker: Worker) -> str:
    worker.process.join(ENDING)
    status = worker.process.exitcode
    if status is None:
        return "its pipe broke"
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _serve(connection: Connection, model: str, threads: int, environment: dict[str, str]) -> None:
    """What a worker process runs. Imported there: this process needs no engine.

    The fork server has the environment of the time when it was started.
    """
    os.environ.update({**environment, **ONE_THREAD})
    from forwardpass.jobs.crew.worker import serve

    serve(connection, model, threads)


@cache
def _context() -> ForkServerContext:
    """Workers are forked from a process with the heavy imports done, so that each starts at once.

    A fork of this process would not do: Arrow and others have threads by now.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["forwardpass.jobs.crew.worker"])
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)  # cores belong to the workers' backends
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context
