"""The template: a process with the heavy imports done, from which workers are forked.

A fork costs milliseconds where a new interpreter costs a second, and the forks share the
template's memory. It holds no model, runs no batch and listens to its front alone; when the front
goes, so does it. Run as ``python -m forwardpass.engine.template FD``.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import msgspec

from forwardpass.engine.link import MOST_FDS, Link
from forwardpass.registry import ModelLocation


class Fork(msgspec.Struct):
    """Fork a worker. With it come the worker's ends of its links."""

    name: str
    version: str
    path: str
    threads: int
    log_level: str
    measures: bool


class Forked(msgspec.Struct, tag="forked"):
    pid: int


class Ended(msgspec.Struct, tag="ended"):
    """A worker ended; ``status`` is its exit code, or minus the signal that killed it."""

    pid: int
    status: int


def main(fd: int) -> None:
    """Import what workers need, then fork them on request until the front closes the link."""
    for signum in (signal.SIGINT, signal.SIGTERM):  # the front decides when to stop, and closes the link
        signal.signal(signum, signal.SIG_IGN)
    control = socket.socket(fileno=fd)
    import forwardpass.backends.onnx
    import forwardpass.engine.worker  # noqa: F401

    gc.collect()
    gc.freeze()  # what is there now is never looked at again, so its pages stay shared
    wake, woken = os.pipe2(os.O_NONBLOCK)
    sources: list[Any] = [control, wake]
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    with suppress(ConnectionResetError, BrokenPipeError):  # the front went while it was told something
        while True:
            ready, _, _ = select.select(sources, [], [])
            if wake in ready:
                os.read(wake, 4096)
                _reap(control)
            if control in ready and not _fork(control):
                return


def _fork(control: socket.socket) -> bool:
    data, fds, _, _ = socket.recv_fds(control, 65536, MOST_FDS)
    if not data:
        return False
    order = msgspec.msgpack.decode(data, type=Fork)
    pid = os.fork()
    if pid == 0:
        become_worker(control, order, fds)
    for fd in fds:
        os.close(fd)
    control.send(msgspec.msgpack.encode(Forked(pid)))
    return True


def become_worker(control: socket.socket, order: Fork, fds: list[int]) -> None:
    """Never returns: this process serves its front and ends. ``control`` is where the order came from."""
    from pathlib import Path

    from forwardpass.engine.worker import serve

    status = 1
    try:
        control.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        logging.basicConfig(level=order.log_level.upper(), format=f"%(levelname)s worker {order.name}: %(message)s")
        model = ModelLocation(order.name, order.version, Path(order.path))
        serve(Link.all_of(fds), model, order.threads, order.measures)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the front went while a reply was on its way
    except BaseException:
        logging.getLogger(__name__).exception("worker of %s ended", order.name)
    finally:
        os._exit(status)


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(msgspec.msgpack.encode(Ended(pid, os.waitstatus_to_exitcode(status))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
