"""Ends what a peer left behind: processes that moved to a session of their own after their parent had gone.

Every process of a peer carries the mark in its environment, whoever started it.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from bench.processes import PROC

MARK = "FORWARDPASS_BENCH_PEER"


def end(mark: str) -> list[int]:
    """Kill every process whose ``MARK`` is ``mark``; which they were."""
    found = [pid for pid in _processes() if _marked(pid, f"{MARK}={mark}".encode())]
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _processes() -> list[int]:
    return [int(folder.name) for folder in PROC.iterdir() if folder.name.isdigit()]


def _marked(pid: int, setting: bytes) -> bool:
    try:
        return setting in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False
