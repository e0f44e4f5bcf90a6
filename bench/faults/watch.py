"""What processes hold, over time: resident memory, open files, shared memory. Linux, ``/proc``.

Knows a server only as a tree: the front, the template below it, the workers below that.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from types import TracebackType

from bench.processes import PROC, tree

PAGE = os.sysconf("SC_PAGE_SIZE")
ARENA = "memfd:forwardpass"
BLOCKS = 20  # means that a slope is fitted to: single samples depend on those before them


def parent(pid: int) -> int | None:
    with suppress(OSError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return None


def workers(front: int) -> list[int]:
    """Workers of a server, by process id: two below the front."""
    parents = {pid: parent(pid) for pid in tree(front)}
    return [pid for pid, above in parents.items() if above in parents and parents.get(above) == front]


def role(pid: int, front: int) -> str:
    if pid == front:
        return "front"
    return "template" if parent(pid) == front else "worker"


def resident(pid: int) -> int:
    """Bytes; 0 where the process is gone."""
    with suppress(OSError):
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    return 0


def open_files(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(PROC / str(pid) / "fd"))
    return 0


def shared_segments(front: int) -> int:
    """Named segments of the machine, and the arenas that the server's processes hold open or mapped."""
    named = len(list(Path("/dev/shm").iterdir())) if Path("/dev/shm").is_dir() else 0
    return named + sum(_arenas(pid) for pid in tree(front))


def _arenas(pid: int) -> int:
    count = 0
    with suppress(OSError):
        count += sum(ARENA in line for line in (PROC / str(pid) / "maps").read_text().splitlines())
    for file in (PROC / str(pid) / "fd").iterdir():
        with suppress(OSError):
            count += ARENA in os.readlink(file)
    return count


@dataclass
class Series:
    """Resident bytes of one process by time (seconds)."""

    role: str
    times: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    def growth(self) -> float:
        """The mean of the last third over that of the first."""
        third = max(1, len(self.bytes) // 3)
        return (sum(self.bytes[-third:]) / third) / (sum(self.bytes[:third]) / third or 1)

    def slope(self, skip: float = 0.2) -> tuple[float, float]:
        """Bytes per second and the standard error of that, without the first ``skip`` of the time."""
        start = int(len(self.bytes) * skip)
        times, values = self.times[start:], self.bytes[start:]
        size = max(1, len(times) // BLOCKS)
        starts = range(0, len(times) - size + 1, size)
        return fit([(_mean(times[at : at + size]), _mean(values[at : at + size])) for at in starts])


def fit(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope of the straight line through the points by least squares, and its standard error."""
    count = len(points)
    if count < 3:
        return 0.0, float("inf")
    x, y = _mean([point[0] for point in points]), _mean([point[1] for point in points])
    spread = sum((a - x) ** 2 for a, _ in points)
    slope = sum((a - x) * (b - y) for a, b in points) / spread
    rest = sum((b - y - slope * (a - x)) ** 2 for a, b in points)
    return slope, sqrt(rest / (count - 2) / spread)


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values)


class Watch:
    """Samples the memory of a server's processes from a thread, between ``with`` and its end."""

    def __init__(self, front: int, every: float = 0.25) -> None:
        self.series: dict[int, Series] = {}
        self._front = front
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def lived(self) -> list[Series]:
        """Of the processes that were there all the time."""
        most = max((len(series.bytes) for series in self.series.values()), default=0)
        return [series for series in self.series.values() if len(series.bytes) >= most - 1]

    def _run(self) -> None:
        pids = {pid: role(pid, self._front) for pid in tree(self._front)}
        started = time.monotonic()
        while not self._end.wait(self._every):
            for pid, name in pids.items():
                if held := resident(pid):
                    series = self.series.setdefault(pid, Series(name))
                    series.times.append(time.monotonic() - started)
                    series.bytes.append(held)
