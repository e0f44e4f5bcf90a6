"""How the measured servers are started: Forwardpass, the plain server and nginx, each on given cores."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from bench import nginx
from bench.processes import Server, free_port, serving

Started = AbstractContextManager[Server]


def forwardpass(path: Path, cores: set[int], log: Path, replicas: int = 1) -> Started:
    """``forwardpass serve`` with its defaults, ready when ``/readyz`` says so."""
    program = str(Path(sys.executable).with_name("forwardpass"))
    port = free_port()
    options = ["--port", str(port), "--grpc-port", "0", "--replicas", str(replicas), "--cores", str(len(cores))]
    return serving([program, "serve", str(path), *options], port, "/readyz", cores, log)


def plain(artifact: Path, cores: set[int], log: Path, options: Iterable[str] = ()) -> Started:
    """The FastAPI server under uvicorn: one worker, uvicorn's defaults but for ``options``."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.plain_server:app", "--port", str(port), *options]
    return serving(command, port, "/health", cores, log, {"BENCH_MODEL": str(artifact)})


def fixed_reply(folder: Path, cores: set[int], json_size: int, binary_size: int) -> Started:
    """nginx with replies of these sizes at ``/json`` and ``/binary``."""
    port = free_port()
    return serving(nginx.command(folder, port, json_size, binary_size), port, "/json", cores, folder / "nginx.log")


def proxy(folder: Path, cores: set[int], far: int) -> Started:
    """nginx as a reverse proxy to the server on the port ``far``."""
    port = free_port()
    return serving(nginx.proxy_command(folder, port, far), port, "/readyz", cores, folder / "nginx.log")
