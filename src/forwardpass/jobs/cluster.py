"""Which Ray cluster a job runs on. Asked before Ray is imported, for Ray reads its environment then.

Knows no Ray.
"""

from __future__ import annotations

import os
from pathlib import Path

ONE_OF_OURS, FOUND = "local", "auto"  # as Ray names them
_RUNNING = "ray/ray_current_cluster"  # in the folder for temporary files: `ray start` writes it, `ray stop` removes it


def choose_cluster(address: str) -> str:
    """What ``ray.init`` is to be given; ``local`` where a cluster is to be started.

    Ray then says nothing to its makers, and a cluster of ours listens on loopback only.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is said by the job
    chosen = address or os.environ.get("RAY_ADDRESS") or (FOUND if _is_running() else ONE_OF_OURS)
    if chosen == ONE_OF_OURS:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on Linux too, "0" means loopback
    return chosen


def _is_running() -> bool:
    return Path(os.environ.get("RAY_TMPDIR", "/tmp"), _RUNNING).exists()  # noqa: S108 - Ray's own place
