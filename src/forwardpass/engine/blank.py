"""A worker in an interpreter of its own, before it knows its model.

Starting one takes nothing but the standard library, so that a program can do it before its own
imports: both then import at the same time. Which model it loads it is told later (``spawn``).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

STDERR = 2
# one thread in numpy's own library: a worker's cores belong to its backend
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "ORT_DISABLE_TELEMETRY": "1",
}
LITTLE_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}


@dataclass(frozen=True, slots=True)
class Blank:
    """Its process, and the socket on which it waits for its one order; it ends when that closes."""

    process: subprocess.Popen[bytes]
    orders: socket.socket

    def end(self) -> None:
        """It is not needed."""
        self.orders.close()
        self.process.kill()
        self.process.wait()


def start_blank() -> Blank:
    """Start one. What it prints goes where errors go: the output may be read by a program. Raises ``OSError``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "forwardpass.engine.solo", str(theirs.fileno())]
    environment = {**LITTLE_MEMORY, **os.environ, **ENVIRONMENT}
    # what the whole group is told must not end it: who started it decides when to stop
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stdout=STDERR
        )
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return Blank(process, ours)
