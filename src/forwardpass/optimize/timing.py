"""How fast an engine in this process is: latency of single rows, throughput at its best batch, memory.

Rows are real ones, taken in turn, so that texts of all lengths count. Every measurement ends by the clock. Knows no
parent, no metric and no files.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from forwardpass.engine.engine import Engine
from forwardpass.types import Columns

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FEWEST = 3  # runs, however slow
PREPARED = 16  # batches that are cut beforehand, and taken in turn
FALLEN = 0.7  # of the best throughput: after two such batches larger ones are not tried any more
LONGEST = 2.0  # seconds of one batch: larger ones are not tried
_PRIVATE = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")


@dataclass(frozen=True)
class Speed:
    """``rate`` in rows per second, ``cpu`` in seconds of processor time per row (of all threads)."""

    batch: int
    rate: float
    cpu: float


def latency(engine: Engine, columns: Columns, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile, in seconds, of batches of one row, after a tenth of the time to warm up."""
    batches = _batches(columns, 1)
    _run(engine, batches, seconds / 10)
    times = _run(engine, batches, seconds)
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def best_throughput(engine: Engine, columns: Columns, seconds: float) -> Speed:
    """The batch with the most rows per second, measured again for ``seconds`` after a quick look at each."""
    best, best_rate, fallen = 1, 0.0, 0
    for batch in BATCHES:
        rate = _glance(engine, columns, batch, seconds / len(BATCHES))
        if rate > best_rate:
            best, best_rate = batch, rate
        fallen = fallen + 1 if rate < FALLEN * best_rate else 0
        if fallen == 2 or batch / rate > LONGEST:
            break
    return _speed(engine, columns, best, seconds)


def memory() -> tuple[int, int]:
    """Bytes that only this process holds (0 where the system does not tell), and its resident peak."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, peak
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_PRIVATE)), peak


def _glance(engine: Engine, columns: Columns, batch: int, seconds: float) -> float:
    """Rows per second of a usual run: a pause that the machine made would send the search astray."""
    batches = _batches(columns, batch)
    engine.run(next(batches))
    return batch / float(np.median(_run(engine, batches, seconds)))


def _speed(engine: Engine, columns: Columns, batch: int, seconds: float) -> Speed:
    batches = _batches(columns, batch)
    engine.run(next(batches))  # memory for this shape is found outside of the measurement
    cpu, started = process_time(), perf_counter()
    rows = len(_run(engine, batches, seconds)) * batch
    return Speed(batch, rows / (perf_counter() - started), (process_time() - cpu) / rows)


def _run(engine: Engine, batches: Iterator[Columns], seconds: float) -> list[float]:
    """The time of each run, until the time is over."""
    times: list[float] = []
    before = perf_counter()
    end = before + seconds
    while before < end or len(times) < FEWEST:
        engine.run(next(batches))
        now = perf_counter()
        times.append(now - before)
        before = now
    return times


def _batches(columns: Columns, size: int) -> Iterator[Columns]:
    """Batches of the rows in turn, without end."""
    rows = len(next(iter(columns.values())))
    count = max(1, min(PREPARED, rows // size))
    step = max(1, rows // count)
    cut = [np.arange(start * step, start * step + size) % rows for start in range(count)]
    return cycle([{name: column[places] for name, column in columns.items()} for places in cut])
