"""A worker in an interpreter of its own: imports what it needs, is told its model, serves, ends.

What a device uses: no template holds memory beside it. It ends when its front closes the link, or
goes. Run as ``python -m forwardpass.engine.solo FD``.
"""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import suppress

import msgspec

from forwardpass.engine.link import MOST_FDS
from forwardpass.engine.template import Fork, become_worker


def main(fd: int) -> None:
    """Import, wait for the order, and be that worker; ends where none comes."""
    for signum in (signal.SIGINT, signal.SIGTERM):  # the front decides when to stop, and closes the link
        signal.signal(signum, signal.SIG_IGN)
    orders = socket.socket(fileno=fd)
    with suppress(ImportError):  # another backend may do
        import forwardpass.backends.onnx
    import forwardpass.engine.worker  # noqa: F401

    data, fds, _, _ = socket.recv_fds(orders, 65536, MOST_FDS)
    if data:
        become_worker(orders, msgspec.msgpack.decode(data, type=Fork), fds)


if __name__ == "__main__":
    main(int(sys.argv[1]))
