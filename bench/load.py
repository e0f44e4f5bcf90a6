"""Sends requests over a fixed number of connections, each waiting for its answer, and counts.

``wrk`` does it where it is installed: a client in Python cannot reach nginx's rate and would
flatter every server behind it. Any error or status of 400 and above fails the measurement. Load
goes to 127.0.0.1 only and ends after the given time. Does not look into answers (``answers``).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TIMEOUT = 20  # seconds; 64 images wait about 2 s on one core


class LoadFailed(Exception):
    """The server did not answer every request well; the measurement does not count."""


@dataclass(frozen=True)
class Request:
    """What is sent: a POST to ``path`` with each of ``bodies`` (files) in turn."""

    path: str
    content_type: str
    bodies: tuple[Path, ...]
    header_length: int | None = None

    def headers(self) -> dict[str, str]:
        binary = {} if self.header_length is None else {"Inference-Header-Content-Length": str(self.header_length)}
        return {"Content-Type": self.content_type, **binary}


@dataclass(frozen=True)
class Load:
    """One measurement; times in seconds. CPU seconds of the server's processes and of the client."""

    requests: int
    seconds: float
    p50: float
    p99: float
    client_cpu: float
    server_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def cpu_per_request(self) -> float:
        """Server CPU seconds per request."""
        return self.server_cpu / self.requests


def tool() -> str:
    return "wrk" if shutil.which("wrk") else "Python client (wrk is not installed)"


def send(port: int, request: Request, connections: int, seconds: float, cores: Iterable[int]) -> Load:
    """One measurement. Raises ``LoadFailed`` where anything went wrong."""
    command = _wrk if shutil.which("wrk") else _python_client
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(
        command(port, request, connections, seconds),
        capture_output=True,
        text=True,
        timeout=seconds + 3 * TIMEOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, set(cores)),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise LoadFailed(
            f"{tool()} ended with {process.returncode}: {(process.stderr or process.stdout).strip()[-300:]}"
        )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return read_result(json.loads(process.stdout.strip().splitlines()[-1]), connections, cpu)


def read_result(result: dict[str, Any], connections: int, client_cpu: float) -> Load:
    """The JSON line of ``post.lua`` (or of the Python client) as a ``Load``."""
    requests, microseconds = result["requests"], result["microseconds"]
    if result["errors"] or not requests:
        raise LoadFailed(f"{result['errors']} of {requests} requests failed or were refused")
    load = Load(requests, microseconds / 1e6, result["p50"] / 1e6, result["p99"] / 1e6, client_cpu)
    if not result["histogram"]:
        return load
    histogram = uncorrected(result["histogram"], microseconds // (requests // connections))
    if sum(histogram.values()) != requests or min(histogram.values()) < 0:
        raise LoadFailed("the histogram of wrk does not add up to the requests it sent")
    return replace(load, p50=percentile(histogram, 50) / 1e6, p99=percentile(histogram, 99) / 1e6)


def uncorrected(histogram: Iterable[tuple[int, int]], expected: int) -> dict[int, int]:
    """The latencies really seen, from wrk's histogram (value, count).

    wrk adds made-up samples below every latency of at least twice the mean ("coordinated
    omission"): one pause of 20 ms of a virtual machine becomes hundreds of slow requests, and the
    percentiles speak of the pauses. The additions follow from the real counts; going down
    from the highest latency, each is known by the time it is reached.
    """
    counts = dict(histogram)
    for value in sorted(counts, reverse=True):
        if value < 2 * expected or expected == 0:
            break
        if counts[value] == 0:
            continue
        for lower in range(value - expected, expected, -expected):
            counts[lower] = counts.get(lower, 0) - counts[value]
    return {value: count for value, count in counts.items() if count}


def percentile(histogram: dict[int, int], percent: float) -> int:
    """The smallest value that at least ``percent`` of all samples do not exceed."""
    wanted, seen = sum(histogram.values()) * percent / 100, 0
    for value in sorted(histogram):
        seen += histogram[value]
        if seen >= wanted:
            return value
    raise ValueError("a histogram with no samples has no percentiles")


def _wrk(port: int, request: Request, connections: int, seconds: float) -> list[str]:
    script = str(Path(__file__).with_name("post.lua"))
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT}s", "-s", script]
    headers = [item for name, value in request.headers().items() for item in ("-H", f"{name}: {value}")]
    bodies = [str(body) for body in request.bodies]
    url = f"http://127.0.0.1:{port}{request.path}"
    return ["wrk", *options, *headers, url, "--", "histogram" if connections == 1 else "percentiles", *bodies]


def _python_client(port: int, request: Request, connections: int, seconds: float) -> list[str]:
    options = {"port": port, "path": request.path, "headers": request.headers()}
    options |= {"connections": connections, "seconds": seconds, "bodies": [str(body) for body in request.bodies]}
    return [sys.executable, str(Path(__file__).with_name("python_client.py")), json.dumps(options)]
