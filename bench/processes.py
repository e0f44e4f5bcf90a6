"""Starts servers on chosen cores, waits until they answer, reads what they use, and always ends them.

A server is the whole tree of processes below the one that was started (Linux, ``/proc``). Knows no
server in particular.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class StartFailed(Exception):
    """A server ended, or did not answer in time."""


@dataclass(frozen=True)
class Memory:
    """Megabytes (10^6 bytes). ``shared`` counts pages that several processes map in equal parts (PSS)."""

    shared: float
    private: float
    resident: float


@dataclass(frozen=True)
class Server:
    port: int
    pid: int
    started_in: float  # seconds from the start of the process to the first good answer

    def cpu_seconds(self) -> float:
        """CPU seconds that all of its living processes have used so far."""
        return sum(_cpu_seconds(pid) for pid in tree(self.pid))

    def memory(self) -> dict[int, Memory]:
        """By process id, the first one started first."""
        return {pid: _memory(pid) for pid in tree(self.pid)}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def pinned(
    command: list[str], cores: Iterable[int], environ: Mapping[str, str], **pipes: int
) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own on these cores; it and all below it are gone afterwards."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", **environ},
        text=True,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, set(cores)),
        **pipes,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        end(process)


@contextmanager
def serving(
    command: list[str], port: int, ready: str, cores: Iterable[int], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server that answers 200 at the path ``ready``. Raises ``StartFailed`` with the end of its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        started = time.perf_counter()
        try:
            with pinned(command, cores, environ or {}, stdout=output.fileno(), stderr=output.fileno()) as process:
                seconds = _wait(process, port, ready, started, log)
                yield Server(port, process.pid, seconds)
        except FileNotFoundError as reason:
            raise StartFailed(f"cannot be started: {reason}") from None


def end(process: subprocess.Popen[str], patience: float = 10.0) -> None:
    """Ask it to stop, wait, then kill whatever is left of its tree."""
    family = tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    for pid in {*family, *tree(process.pid)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def tree(root: int) -> list[int]:
    """Process ids of ``root`` and everything below it or in its session, as far as they live."""
    parents = {}
    for folder in PROC.iterdir():
        fields = _stat(int(folder.name)) if folder.name.isdigit() else None
        if fields and fields[0] != "Z":
            parents[int(folder.name)] = {int(fields[1]), int(fields[3])}  # parent, session
    found = {root} & parents.keys()
    while more := {pid for pid, above in parents.items() if above & (found | {root})} - found:
        found |= more
    return sorted(found)


def _stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the third on: state, parent, group, session, …"""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def _memory(pid: int) -> Memory:
    kilobytes: dict[str, int] = {}
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kilobytes[name.rstrip(":")] = int(value)
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return Memory(*(value * 1024 / 1e6 for value in (kilobytes["Pss"], private, kilobytes["Rss"])))


def _wait(process: subprocess.Popen[str], port: int, ready: str, started: float, log: Path) -> float:
    """Seconds until it is ready."""
    while (seconds := time.perf_counter() - started) < 60:
        if process.poll() is not None:
            raise StartFailed(f"ended with {process.returncode} before it was ready: {log.read_text()[-300:].strip()}")
        if _answers(port, ready):
            return seconds
        time.sleep(0.002)
    raise StartFailed(f"not ready after 60 s: {log.read_text()[-300:].strip()}")


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
