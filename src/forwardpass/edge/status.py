"""The socket in an agent's home: where it listens, and asking it there for its status.

The status is what the agent's ``/status`` says: version, slot, rates, latencies, errors, inputs, outputs,
outbox and updates. Knows nothing of how the agent comes to it, nor how people are shown it.
"""

from __future__ import annotations

import http.client
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from forwardpass.edge.distribution import HERE
from forwardpass.errors import NotReady

TIMEOUT = 5.0  # seconds in which an agent must answer
LONGEST_ADDRESS = 100  # bytes of a Unix socket's path that every system takes


def bind_unix(path: Path) -> socket.socket:
    """A listening socket at a path, for its owner alone; one that a dead agent left there is replaced.

    Raises ``OSError``.
    """
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_RDONLY)
    mask = os.umask(0o077)
    try:
        sock.bind(_address(path, folder))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
        os.close(folder)
    return sock


def ask(path: Path, method: str = "GET", url: str = "/status") -> Any:
    """What the agent that listens at ``path`` says. Raises ``NotReady`` where none does."""
    try:
        with closing(_UnixConnection(path)) as connection:
            connection.request(method, url)
            response = connection.getresponse()
            content = response.read()
    except (FileNotFoundError, ConnectionRefusedError):
        start = f"start one: {HERE.program} --home {path.parent}"
        raise NotReady(f"no agent runs with the home {path.parent}; {start}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise NotReady(f"the agent of {path.parent} cannot be asked: {reason}") from None
    answer = orjson.loads(content)
    if response.status >= 300:
        raise NotReady(f"{path.parent}: {answer['error']}")
    return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            self.sock.connect(_address(self._path, folder))
        finally:
            os.close(folder)


def _address(path: Path, folder: int) -> str:
    """The path or, where that is longer than a socket's may be, the same by its open folder."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        return str(path)
    return f"/proc/self/fd/{folder}/{path.name}"
