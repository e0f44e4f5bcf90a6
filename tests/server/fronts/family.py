"""Who is who in a running server: its fronts and workers, by ``/proc``, and connections to chosen fronts."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tests import artifacts
from tests.engine.workers import children, lives, stat
from tests.server.process import Server

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not PROC.is_dir(), reason="looks at processes in /proc, which is not here")
PATIENCE = 20.0
SLEEPS = """
    import time
    from forwardpass.pipeline import step

    @step(reads=["x"], writes=["x"])
    def sleep(columns):
        time.sleep(float(columns["x"].max()))
        return {"x": columns["x"]}
"""
FOLLOWER, TEMPLATE = "forwardpass.server.fronts.follower", "forwardpass.engine.template"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def sleeper(folder: Path, limits: str = "{max_batch_size: 1}") -> Path:
    """A model that answers two numbers with themselves, after as many seconds."""
    artifacts.identity(folder / "model.onnx")
    (folder / "steps.py").write_text(dedent(SLEEPS), encoding="utf-8")
    (folder / "model.yaml").write_text(f"preprocess: [{{step: sleep}}]\nwarm_up: false\nlimits: {limits}\n")
    return folder


class Client:
    """A connection kept alive. ``front`` is the process that has accepted it."""

    def __init__(self, server: Server, timeout: float = 20.0) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
        self.connection.connect()
        self.connection.auto_open = 0  # not again, to whichever front
        self.front = _owner(server, self.connection.sock.getsockname()[1])

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        self.send(method, path, body, **headers)
        return self.receive()

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        """Send a request, in one piece."""
        pieces: list[bytes] = []
        self.connection.send = pieces.append  # type: ignore[method-assign, assignment]
        self.connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        del self.connection.send
        self.connection.sock.sendall(b"".join(pieces))

    def receive(self) -> Answer:
        answer = self.connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def predict(self, model: str, value: float = 0.0) -> Answer:
        self.begin(model, value)
        return self.receive()

    def begin(self, model: str, value: float) -> None:
        """Send a request for ``predict``; ``receive`` gives its answer."""
        self.send("POST", f"/v1/models/{model}:predict", json.dumps({"instances": [[value, value]]}).encode())


@contextlib.contextmanager
def clients(server: Server, each: int = 1, count: int = 2) -> Iterator[list[list[Client]]]:
    """``each`` connections to every one of ``count`` fronts, the first front's first."""
    made: dict[int, list[Client]] = {}
    end = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while len(made) < count or any(len(some) < each for some in made.values()):
            assert time.monotonic() < end, f"connections reach {len(made)} of {count} fronts"
            client = Client(server)
            stack.callback(client.connection.close)
            made.setdefault(client.front, []).append(client)
            if len(made[client.front]) > each:
                made[client.front].pop().connection.close()
        yield [made[pid] for pid in sorted(made, key=lambda pid: pid != server.pid)]


def _owner(server: Server, port: int) -> int:
    """The front that accepted the connection from this port."""
    for _ in range(2000):
        inode = _inode(server.port, port)
        for pid in fronts(server):
            with contextlib.suppress(OSError):
                for link in (PROC / str(pid) / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        if os.readlink(link) == f"socket:[{inode}]":
                            return pid
        time.sleep(0.002)
    raise AssertionError("no front accepts the connection")


def _inode(local: int, remote: int) -> str:
    for line in (PROC / "net" / "tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{local:04X}") and fields[2].endswith(f":{remote:04X}"):
            return fields[9]
    return "0"


def fronts(server: Server) -> list[int]:
    """The first front, then the others that live."""
    return [server.pid, *(pid for pid in children(server.pid) if FOLLOWER in _command(pid))]


def workers(server: Server) -> list[int]:
    return [pid for template in children(server.pid) if TEMPLATE in _command(template) for pid in children(template)]


def everybody(server: Server) -> list[int]:
    """All processes of the server's session that live."""
    return [pid for pid in _pids() if lives(pid) and _session(pid) == server.pid]


def until(true: Callable[[], object], timeout: float = PATIENCE) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def control(server: Server, model: str, verb: str) -> int:
    """Load or unload over the API."""
    request = urllib.request.Request(f"{server.url}/v2/repository/models/{model}/{verb}", b"", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def statistics(client: Client, model: str) -> dict[str, Any]:
    (found,) = client.ask("GET", f"/v2/models/{model}/stats").json["model_stats"]
    return dict(found)


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_text()
    except OSError:
        return ""


def _session(pid: int) -> int | None:
    try:
        return int(stat(pid)[3])
    except OSError:
        return None
