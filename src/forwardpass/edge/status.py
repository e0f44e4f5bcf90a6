"""``forwardpass agent status``: asks the agent of a home over its socket, and shows it to people.

The status is what the agent's ``/status`` says: version, slot, rates, latencies, errors, inputs, outputs,
outbox and updates. Knows nothing of how the agent comes to it.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

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
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(
            f"no agent runs with the home {path.parent} ({getattr(error, 'strerror', None) or error}); "
            f"start one: forwardpass agent --home {path.parent}"
        ) from None
    if response.status >= 300:
        raise NotReady(f"the agent of {path.parent} answered {response.status}: {content[:200].decode('latin-1')}")
    return orjson.loads(content)


def show(status: Mapping[str, Any], now: float | None = None) -> str:
    """The status for people."""
    return "\n".join(f"{name:<12}{text}" for name, text in _lines(status, time.time() if now is None else now))


def _lines(status: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    state = "ready" if status["ready"] else f"not ready: {status['reason']}"
    yield "model", f"{status['model']} version {status['version']} (slot {status['slot']}), {state}"
    if status["watching"] is not None:
        yield "", f"new; kept in {duration(status['watching'])}, if it stays well"
    yield "agent", f"{status['agent']}, process {status['pid']}, up {duration(status['uptime'])}, {status['address']}"
    rates, total = status["last_minute"], status["total"]
    yield "now", f"{rates['predictions']:.1f} predictions/s, {rates['rows']:.1f} rows/s, {rates['errors']:.2f} errors/s"
    yield "latency", f"p50 {_milliseconds(rates['p50'])}, p99 {_milliseconds(rates['p99'])} (last minute)"
    yield (
        "total",
        (
            f"{total['predictions']} predictions, {total['rows']} rows, {total['errors']} errors, "
            f"{status['restarts']} worker restarts"
        ),
    )
    follow = status["follow_up"]
    if follow["waiting"] or follow["dropped"] or follow["failed"]:
        yield "follow-up", f"{follow['waiting']} waiting, {follow['dropped']} dropped, {follow['failed']} failed"
    for kind in ("inputs", "outputs"):
        for item in status[kind]:
            yield kind[:-1], _item(item)
    for service in status["services"]:
        yield from _service(service, now)
    yield "contact", "never" if status["last_contact"] is None else f"{duration(now - status['last_contact'])} ago"


def _item(item: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{number} {what}" for what, number in item["counts"].items())
    waiting = f", {item['waiting']} waiting" if item.get("waiting") else ""
    return f"{item['name']}: {counts}{waiting}" + (f" ({item['problem']})" if item["problem"] else "")


def _service(service: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    """What is not empty of an outbox, an updater, or whatever else runs beside."""
    facts = []
    for key, value in service.items():
        if key in ("name", "last_contact") or value in (None, "", 0, {}, []):
            continue
        if key.startswith("last_check") and isinstance(value, float):
            value = f"{duration(now - value)} ago"
        elif isinstance(value, Mapping):
            value = ", ".join(f"{number} {what}" for what, number in value.items() if number) or "none"
        facts.append(f"{key.replace('_', ' ')}: {value}")
    yield service["name"], "; ".join(facts) or "idle"


def duration(seconds: float) -> str:
    """Such as `3 d 4 h`, `12 min 5 s`."""
    rest = max(0, round(seconds))
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f} ms"


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
