"""Making a candidate in a process of its own: what a recipe does to it is lost with its candidate alone.

The process is started anew, not forked: libraries that make models have threads that no fork survives. Knows no
measurements.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from forwardpass.errors import BackendFailed
from forwardpass.optimize.measure import ended
from forwardpass.optimize.recipe import Parent, Recipe

log = logging.getLogger(__name__)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # not the candidate's fault


class MakingFailed(BackendFailed):
    """A recipe did not make its candidate; the message says why in one line."""


def make(recipe: Recipe, parent: Parent, folder: Path, timeout: float) -> None:
    """Let a recipe write its candidate's folder, which is there and empty.

    Raises ``MakingFailed`` where it fails, crashes or takes longer than ``timeout`` seconds, ``OSError`` where the disk
    is full.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_make, args=(recipe, parent, folder, theirs))
    process.start()
    theirs.close()
    try:
        number, reason = _answer(ours, timeout)
        process.join(timeout)
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()
    if number in FULL:
        raise OSError(number, reason)
    if reason is None:
        raise MakingFailed(ended(process.exitcode or 0))
    if reason:
        raise MakingFailed(reason)


def _answer(connection: Connection, timeout: float) -> tuple[int, str | None]:
    """The system's error number (0: none) and why it failed ("": it did not); None where the process died."""
    if not connection.poll(timeout):
        return 0, f"it was not made within {timeout:.0f} s"
    try:
        number, reason = connection.recv()
    except EOFError:
        return 0, None
    return int(number), str(reason)


def _make(recipe: Recipe, parent: Parent, folder: Path, connection: Connection) -> None:
    logging.basicConfig(level="ERROR")
    try:
        recipe.make(parent, folder)
    except Exception as error:  # the door of this process: whatever a library raises is the answer
        log.debug("%s failed", recipe.name, exc_info=error)
        number = error.errno or 0 if isinstance(error, OSError) else 0
        connection.send((number, " ".join(str(error).split()) or type(error).__name__))
    else:
        connection.send((0, ""))
