"""Load at a given rate, whatever the server does meanwhile: latency counts from when a request was due.

Sends with ``forwardpass.loadtest`` in a process of its own (``python -m bench.peers.open_loop OPTIONS``)
on the client's core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.load import Load, LoadFailed, Request

PATIENCE = 30  # seconds that a request may take, and that the last ones may take beyond the end


def send(port: int, request: Request, rate: float, seconds: float, cores: Iterable[int]) -> Load:
    """One measurement at ``rate`` requests per second.

    Raises ``LoadFailed`` where a request failed or the client could not keep the rate.
    """
    try:
        done = subprocess.run(
            command(port, request, rate, seconds),
            capture_output=True,
            text=True,
            timeout=seconds + 3 * PATIENCE,
            preexec_fn=lambda: os.sched_setaffinity(0, set(cores)),
        )
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"the open loop did not end {3 * PATIENCE} s after its time") from None
    if done.returncode:
        raise LoadFailed(f"the open loop ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return read_result(json.loads(done.stdout))


def command(port: int, request: Request, rate: float, seconds: float) -> list[str]:
    options = {"port": port, "rate": rate, "seconds": seconds, **asdict(request)}
    return [sys.executable, "-m", "bench.peers.open_loop", json.dumps(options, default=str)]


def read_result(found: dict[str, Any]) -> Load:
    """What ``main`` prints, as a ``Load``."""
    if found["bad"] or not found["ok"]:
        raise LoadFailed(f"{found['bad']} of {found['sent']} requests failed or were refused: {found['first_error']}")
    if not found["punctual"]:
        raise LoadFailed(f"the load generator could not keep {found['planned']:,.0f} requests a second")
    return Load(found["ok"], found["seconds"], found["p50"], found["p99"], client_cpu=0.0)


def main() -> None:
    from forwardpass.loadtest import HttpTarget, http_request, opened, run

    options = json.loads(sys.argv[1])
    url = f"http://127.0.0.1:{options['port']}"
    headers = Request(options["path"], options["content_type"], (), options["header_length"]).headers()
    requests = [http_request(url + options["path"], Path(body).read_bytes(), headers) for body in options["bodies"]]
    target = HttpTarget("http", requests, url=url)
    result = run(opened(target, options["rate"], options["seconds"], timeout=PATIENCE))
    facts: dict[str, Any] = {name: getattr(result, name) for name in ("sent", "ok", "seconds", "punctual")}
    facts |= {"bad": result.sent - result.ok, "first_error": result.first_error, "planned": options["rate"]}
    print(json.dumps(facts | {f"p{p}": result.latency.percentile(p) for p in (50, 99)}))


if __name__ == "__main__":
    main()
