"""A real ``forwardpass serve`` process for tests: started on a free port, stopped for sure.

Knows the command line and the page ``GET /models``, nothing of the inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

START = 30.0  # seconds in which all models must be up, or have failed
STOP = 15.0  # seconds in which SIGTERM must have ended it


@dataclass(frozen=True)
class Server:
    """``url`` has no slash at its end; ``log`` is the file with all that it printed."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]
    grpc_port: int | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextlib.contextmanager
def running(paths: Sequence[Path], *args: str, wait: bool = True, grpc: bool = False) -> Iterator[Server]:
    """A server of these paths; ``args`` are more flags of ``serve``, ``grpc`` opens that door too.

    With ``wait``, no model is loading any more when it is yielded: each is ready, or has failed.
    Afterwards the process and its workers are gone, whatever happened.
    """
    port = free_port()
    grpc_port = free_port() if grpc else None
    door = ["--no-grpc"] if grpc_port is None else ["--grpc-port", str(grpc_port)]
    with tempfile.NamedTemporaryFile(prefix="serve-", suffix=".log") as log:
        command = [sys.executable, "-m", "forwardpass", "serve", *map(str, paths), "--port", str(port), *door, *args]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        server = Server(f"http://127.0.0.1:{port}", Path(log.name), process, grpc_port)
        try:
            if wait:
                wait_until_settled(server)
            yield server
        finally:
            stop(process)


def wait_until_settled(server: Server, timeout: float = START) -> None:
    """Until no model is loading. Raises ``RuntimeError`` with the log where it exits or takes too long."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(f"{server.url}/models", timeout=5) as answer:
                models = json.load(answer)["models"]
            if all(model["state"] != "LOADING" for model in models) and _accepts(server.grpc_port):
                return
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start (exit status {server.process.poll()}):\n{server.log.read_text()}")


def _accepts(port: int | None) -> bool:
    """Whether somebody listens there; None is nobody's to wait for."""
    if port is None:
        return True
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL to it and all its workers."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
