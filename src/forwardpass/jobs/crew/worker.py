"""A job's worker: a process with an engine of its own that does parts, one after the other.

It ends when its parent closes the pipe, also in the middle of a part: what is not committed is done
again.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

import pyarrow as pa

from forwardpass.errors import ForwardpassError, InvalidModel
from forwardpass.jobs.crew import messages
from forwardpass.jobs.crew.messages import Begin, Do, Done, Failed, Loaded, Order, Progress, Refused, send
from forwardpass.jobs.dataset import DataSet
from forwardpass.jobs.engine import JobEngine, open_engine
from forwardpass.jobs.job import Layout
from forwardpass.jobs.ledger import Part
from forwardpass.jobs.mapping import ColumnMap
from forwardpass.jobs.part import PartRunner
from forwardpass.jobs.predictor import Predictor
from forwardpass.jobs.sizes import create_sizes

log = logging.getLogger(__name__)

OFTEN = 0.2  # seconds between two reports of progress
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def serve(connection: Connection, model: str, threads: int) -> None:
    """Load the model, then do what the parent orders until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.basicConfig(level="WARNING", format="%(levelname)s worker: %(message)s")
    pa.set_cpu_count(threads)
    try:
        engine = open_engine(model, threads)
    except ForwardpassError as error:
        send(connection, Refused(error.message))
        return
    with suppress(OSError):
        send(connection, Loaded(engine.signature))
        _Worker(connection, engine).serve()


def create_runner(engine: JobEngine, begin: Begin) -> PartRunner:
    """What does parts of a job with this engine.

    Raises ``InvalidInput`` where the job does not suit it, ``InvalidModel`` where it is not the one of the plan.
    """
    job = begin.job
    _require_planned(begin.files, engine.digests)
    data = DataSet(begin.data)
    columns = ColumnMap(data.schema, engine.signature, job.map, job.keep, data.typed)
    sizes = create_sizes(engine.signature, job.batch_rows, job.part_rows)
    return PartRunner(data, columns, Predictor(engine, columns, sizes.batch), Layout(job.output), sizes.window)


def _require_planned(planned: Mapping[str, str], loaded: Mapping[str, str]) -> None:
    if not loaded:  # a server has it
        return
    changed = sorted(name for name in {*planned, *loaded} if planned.get(name) != loaded.get(name))
    if changed:
        raise InvalidModel(
            f"the model changed during the job ({', '.join(changed)}): no more parts are done. Undo the change and go "
            "on with --resume, or choose another output"
        )


def fail(error: BaseException) -> Failed:
    """How a part that could not be done is told."""
    if isinstance(error, ForwardpassError):
        return Failed(error.message, hopeless=False)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Failed(f"{where}{error.strerror or error}", hopeless=error.errno in HOPELESS)
    return Failed(f"{type(error).__name__}: {error}", hopeless=False)


class _Worker:
    """Hears orders on a thread, so that it ends at once when the parent has gone."""

    def __init__(self, connection: Connection, engine: JobEngine) -> None:
        self._connection = connection
        self._engine = engine
        self._runner: PartRunner | None = None
        self._told = 0.0
        self._orders: list[Order] = []
        self._ordered = threading.Semaphore(0)
        threading.Thread(target=self._hear, daemon=True).start()

    def serve(self) -> None:
        while True:
            self._ordered.acquire()
            order = self._orders.pop(0)
            if isinstance(order, Begin):
                try:
                    self._runner = create_runner(self._engine, order)
                except ForwardpassError as error:
                    send(self._connection, Refused(error.message))
                    return
            elif isinstance(order, Do):
                self._do(order.part)

    def _hear(self) -> None:
        try:
            while True:
                self._orders.append(messages.receive_order(self._connection))
                self._ordered.release()
        except (EOFError, OSError):
            os._exit(0)

    def _do(self, part: Part) -> None:
        assert self._runner is not None, "begin first"
        try:
            result = self._runner.run(part, self._tell)
        except Exception as error:  # the batch loop of a job: whatever a library raises, the part is told
            if not isinstance(error, ForwardpassError | OSError):
                log.exception("part %s failed", part.number)
            send(self._connection, fail(error))
        else:
            send(self._connection, Done(result))

    def _tell(self, rows: int) -> None:
        now = time.monotonic()
        if now - self._told >= OFTEN:
            self._told = now
            send(self._connection, Progress(rows))
