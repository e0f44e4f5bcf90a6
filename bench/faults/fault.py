"""What all faults share: how long they go on, on which cores, and how a server is started for them.

A fault is a function from a ``Trial`` to figures. Long and short forms differ in numbers only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.faults.figure import Figure
from bench.processes import Server, free_port, serving
from forwardpass.loadtest import Result

PROGRAM = str(Path(sys.executable).with_name("forwardpass"))


@dataclass(frozen=True)
class Trial:
    """``seconds`` overrides how long a fault goes on; ``quick`` is its short form, which tests run.

    ``server`` and ``client`` are cores; the client's are set by whoever starts the process.
    """

    work: Path
    quick: bool = False
    seconds: float | None = None
    server: frozenset[int] = frozenset(os.sched_getaffinity(0))

    def lasts(self, long: float, quick: float) -> float:
        """Seconds that the fault goes on."""
        return self.seconds or (quick if self.quick else long)

    @contextmanager
    def serve(self, path: Path, *options: str, name: str = "server", grpc_port: int | None = None) -> Iterator[Server]:
        """``forwardpass serve`` on this trial's cores, ready; ended afterwards, whatever happened."""
        port = free_port()
        door = ["--no-grpc"] if grpc_port is None else ["--grpc-port", str(grpc_port)]
        cores = ["--cores", str(len(self.server))]
        command = [PROGRAM, "serve", str(path), "--port", str(port), *door, *cores, "--log-level", "error", *options]
        with serving(command, port, "/readyz", self.server, self.work / "logs" / f"{name}.log") as server:
            yield server


Fault = Callable[[Trial], Sequence[Figure]]


def unexplained(result: Result, *stated: str) -> int:
    """Requests that got neither a good answer nor a stated refusal; ``stated`` errors do not count."""
    return result.failed - sum(result.errors[kind] for kind in stated)


def unaccounted(result: Result) -> int:
    """Requests sent that did not end exactly once."""
    ended = result.ok + result.refused.count + result.failed + result.left
    return abs(result.sent - ended)


def why(result: Result) -> str:
    """The errors by kind and the first of them, for a figure's note."""
    kinds = ", ".join(f"{count} x {kind}" for kind, count in result.errors.items())
    return f"{kinds} (first: {result.first_error})" if kinds else ""
