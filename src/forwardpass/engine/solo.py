"""A worker without a template: imports the rest of what it needs, is told its model, serves, ends.

What a device uses: no template holds memory beside it. It ends when its front closes the link, or
goes. Run as ``python -m forwardpass.engine.solo FD``, or begun in a fork.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

import msgspec

from forwardpass.engine.link import MOST_FDS
from forwardpass.engine.template import Fork, become_worker

STDIN, STDOUT, STDERR = 0, 1, 2
# of malloc.h: one arena, and memory goes back to the system from this size on
_M_ARENA_MAX, _ARENAS = -8, 1
_M_TRIM_THRESHOLD, _TRIM_AT = -1, 128 * 1024


def begin(orders: socket.socket) -> NoReturn:
    """Import, wait for the order, and be that worker; ends where none comes. In a fork nothing else runs on."""
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):  # the front decides when to stop, and closes the link
            signal.signal(signum, signal.SIG_IGN)
        _redirect()
        _little_memory()
        with suppress(ImportError):  # another backend may do
            import forwardpass.backends.onnx
        import forwardpass.engine.worker  # noqa: F401

        data, fds, _, _ = socket.recv_fds(orders, 65536, MOST_FDS)
        if data:
            become_worker(orders, msgspec.msgpack.decode(data, type=Fork), fds)
    except BaseException:
        logging.getLogger(__name__).exception("a worker could not begin")
        os._exit(1)
    os._exit(0)


def _redirect() -> None:
    """Read nothing, and print to where errors go: the output may be read by a program."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STDIN)
    os.close(nothing)
    os.dup2(STDERR, STDOUT)


def _little_memory() -> None:
    """Devices have little. A C library that knows no such settings does as it likes."""
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_AT)


if __name__ == "__main__":
    begin(socket.socket(fileno=int(sys.argv[1])))
