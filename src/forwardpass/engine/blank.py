"""A worker before it knows its model: a fork of this process, or an interpreter of its own.

A fork shares the memory of what both have imported, and takes none of the time; it must come before
threads, event loops and what a worker does not need. An interpreter can be started at any time. Which
model they load they are told later (``spawn``).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass

# what the whole group is told must not end a worker: who started it decides when to stop
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY = 0.005  # seconds
# one thread in numpy's own library: a worker's cores belong to its backend
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "ORT_DISABLE_TELEMETRY": "1",
}


class Child:
    """A process that this one started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def ended(self, within: float = 0.0) -> bool:
        """Whether it has, or does within so many seconds."""
        until = time.monotonic() + within
        while self._look(os.WNOHANG) is None:
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_EVERY)
        return True

    def wait(self) -> int:
        """Its exit code, or minus the signal, once it has ended."""
        status = self._look(0)
        assert status is not None
        return status

    def kill(self) -> None:
        """End it now, if it has not."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def _look(self, how: int) -> int | None:
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, how)
            except ChildProcessError:  # another thread was told, or the system was told to keep no status
                pid, status = self.pid, 0
            if pid and self._status is None:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


@dataclass(frozen=True, slots=True)
class Blank:
    """Its process, and the socket on which it waits for its one order; it ends when that closes."""

    process: Child
    orders: socket.socket

    def end(self) -> None:
        """It is not needed."""
        self.orders.close()
        self.process.kill()


def fork_blank() -> Blank:
    """Import what a worker and this process both need, and fork. Raises ``OSError``."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would hold memory, and are not forked
    import forwardpass.engine.worker  # noqa: F401
    from forwardpass.engine import solo

    ours, theirs = _pair()
    gc.collect()
    gc.freeze()  # what is there now is never looked at again, so its pages stay shared
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        raise
    else:
        if pid == 0:
            ours.close()
            os.environ.update(ENVIRONMENT)
            solo.begin(theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return Blank(Child(pid), ours)


def start_blank() -> Blank:
    """Start an interpreter. Raises ``OSError``."""
    ours, theirs = _pair()
    command = [sys.executable, "-m", "forwardpass.engine.solo", str(theirs.fileno())]
    os.set_inheritable(theirs.fileno(), True)
    try:
        pid = os.posix_spawn(sys.executable, command, {**os.environ, **ENVIRONMENT}, setsigmask=_STOPPING)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Blank(Child(pid), ours)


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
