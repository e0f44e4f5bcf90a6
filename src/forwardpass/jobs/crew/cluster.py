"""Which Ray cluster a job runs on, and how Ray is kept quiet. Asked before Ray is imported: it reads these then.

Knows no Ray.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forwardpass.errors import InvalidSettings

ONE_OF_OURS, FOUND = "local", "auto"  # as Ray names them
REACHED = 5.0  # seconds in which a cluster's address answers; Ray itself goes on trying for minutes
_RUNNING = "ray/ray_current_cluster"  # in the folder for temporary files: `ray start` writes it, `ray stop` removes it
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what fails is said by the job
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that still reads when a run is stopped would start a new cluster
}


def choose_cluster(address: str) -> str:
    """What ``ray.init`` is to be given; ``local`` where a cluster is to be started.

    Ray then reports nothing to its makers, and a cluster of ours listens on loopback only.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    chosen = address or os.environ.get("RAY_ADDRESS") or (FOUND if _is_running() else ONE_OF_OURS)
    if chosen == ONE_OF_OURS:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on Linux too, "0" means loopback
    return chosen


def require_answer(address: str) -> None:
    """Raises ``InvalidSettings`` where nothing listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except OSError as error:
        raise no_cluster(address, str(error)) from None


def no_cluster(address: str, why: str) -> InvalidSettings:
    """What can be done about it is said."""
    return InvalidSettings(
        f"no Ray cluster at {address}: {why}; start one (ray start --head), name another (--address HOST:PORT), or "
        f"let this run start its own (--address {ONE_OF_OURS})"
    )


@contextmanager
def hushed() -> Iterator[None]:
    """While Ray starts: its libraries' lines on stderr go nowhere, and SIGTERM stays with whoever had it."""
    before = signal.getsignal(signal.SIGTERM)
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _is_running() -> bool:
    return Path(os.environ.get("RAY_TMPDIR", "/tmp"), _RUNNING).exists()  # noqa: S108 - Ray's own place
