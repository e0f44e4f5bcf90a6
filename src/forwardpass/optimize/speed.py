"""How fast a model runs with some setting, measured in processes like those that would serve it.

    Setting ─► replicas of it, each a process of its own ─► all run batches of one size at a time ─► rows/s

A process that crashes or hangs fails its setting alone. Knows no accuracy and chooses nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, ForwardpassError
from forwardpass.types import Array, Columns

LOADING = 120.0  # seconds that a model may take to load
LATE = 30.0  # seconds that a measurement may take beyond what was asked
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # cores belong to the backend


@dataclass(frozen=True)
class Setting:
    """How a model may be run: by which backend, in how many processes of how many threads."""

    backend: BackendConfig
    threads: int
    replicas: int

    def __str__(self) -> str:
        precision = "" if self.backend.precision == "fp32" else f" {self.backend.precision}"
        return f"{self.backend.name}{precision}, {_count(self.replicas, 'replica')} of {_count(self.threads, 'thread')}"


@dataclass(frozen=True)
class Order:
    """Run batches of this many rows for so many seconds."""

    rows: int
    seconds: float


@dataclass(frozen=True)
class Ran:
    """What an order gave: rows per second, and seconds of the median batch."""

    rate: float
    batch_seconds: float


@dataclass(frozen=True)
class Ready:
    """A process has loaded the model. ``answers`` are those to its sample."""

    seconds: float
    batched: bool
    answers: dict[str, Array]


class Speedometer:
    """Processes that run a model with one setting, ready to be measured any number of times. A context manager."""

    def __init__(self, path: Path, setting: Setting) -> None:
        self._path = path
        self._setting = setting
        self._workers: list[tuple[SpawnProcess, Connection]] = []

    def __enter__(self) -> Speedometer:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._setting.replicas):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._path, self._setting), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))
        return self

    def __exit__(self, *_: object) -> None:
        for process, connection in self._workers:
            connection.close()
            process.kill()
            process.join()

    def ready(self) -> Ready:
        """Wait until all have loaded. Raises ``BackendFailed`` with the reason where one has not."""
        heard = [self._hear(index, LOADING) for index in range(len(self._workers))]
        first: Ready = heard[0]
        return replace(first, seconds=max(item.seconds for item in heard))

    def run(self, rows: int, seconds: float, alone: bool = False) -> Ran:
        """All at the same time, or one ``alone``. Raises ``BackendFailed`` where one fails, ends or hangs."""
        workers = range(1 if alone else len(self._workers))
        for index in workers:
            with suppress(OSError):  # it has ended: hearing of it says so
                self._workers[index][1].send(Order(rows, seconds))
        heard = [self._hear(index, seconds + LATE) for index in workers]
        return Ran(sum(item.rate for item in heard), median(item.batch_seconds for item in heard))

    def _hear(self, index: int, patience: float) -> Any:
        process, connection = self._workers[index]
        try:
            if not connection.poll(patience):
                raise BackendFailed(f"gave no answer within {patience:g} s")
            heard = connection.recv()
        except (EOFError, OSError):
            process.join(5)
            raise BackendFailed(f"its process ended ({process.exitcode})") from None
        if isinstance(heard, str):
            raise BackendFailed(heard)
        return heard


def _serve(connection: Connection, path: Path, setting: Setting) -> None:
    """The process: load, say so, then run what is ordered until the pipe closes."""
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    with suppress(EOFError, OSError, KeyboardInterrupt):
        try:
            engine, sample, ready = _load(path, setting)
            connection.send(ready)
            while True:
                connection.send(_run(engine, sample, connection.recv()))
        except ForwardpassError as error:
            connection.send(error.message)


def _load(path: Path, setting: Setting) -> tuple[Any, Columns, Ready]:
    from forwardpass.engine.calibration import rows_of_each_length
    from forwardpass.engine.engine import Engine
    from forwardpass.registry import find_model

    started = time.perf_counter()
    files = find_model(path)
    config = replace(files.config, backend=setting.backend)
    engine = Engine.open(replace(files, config=config), setting.threads)
    sample = next(rows_of_each_length(engine), None)
    if sample is None:
        raise BackendFailed(f"{files.name}: has no sample to run; put a sample.json beside the artifact")
    answers, _ = engine.run(sample)
    return engine, sample, Ready(time.perf_counter() - started, engine.signature.batched, answers)


def _run(engine: Any, sample: Columns, order: Order) -> Ran:
    batch = sample
    if engine.signature.batched:
        batch = {name: np.concatenate([array[:1]] * order.rows) for name, array in sample.items()}
    engine.run(batch)
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or time.perf_counter() - begun < order.seconds:
        started = time.perf_counter()
        engine.run(batch)
        taken.append(time.perf_counter() - started)
    return Ran(order.rows * len(taken) / (time.perf_counter() - begun), median(taken))


def same_answers(some: dict[str, Array], others: dict[str, Array], tolerance: float) -> bool:
    """Whether the answers of two settings differ by rounding alone: texts and whole numbers not at all."""
    return some.keys() == others.keys() and all(_close(some[name], others[name], tolerance) for name in some)


def _close(one: Array, other: Array, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fc":
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True))


def replicas_beside(cores: int, threads: Sequence[int]) -> list[tuple[int, int]]:
    """Threads and how many processes of them fill the cores."""
    return [(count, max(1, cores // count)) for count in threads if count <= cores]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
