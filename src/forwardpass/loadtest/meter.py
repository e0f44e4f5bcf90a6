"""Counts answers into a ``Result`` as they come. On the hot path of the client: a microsecond each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from forwardpass.loadtest.result import Result
from forwardpass.loadtest.target import Connection

Check = Callable[[int, int, dict[str, str], bytes], bool]
REFUSALS = (429, 503)
SHOWN = 300  # bytes of the first wrong answer that are kept


class Meter:
    """Fills ``result``. ``check(index, status, headers, body)`` false makes a good answer a wrong one."""

    def __init__(self, result: Result, check: Check | None) -> None:
        self.result = result
        self.started = 0.0
        self._check = check

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes, now: float) -> None:
        """An answer came at ``now``."""
        result = self.result
        seconds = now - connection.planned
        result.statuses[status] += 1
        result.bytes_received += len(head) + len(body) + 4
        if status == 200:
            if self._check is None or self._check(connection.index, status, headers(head), body):
                self._good(seconds, now - self.started)
            else:
                self._wrong("wrong answer", body, now)
        elif status in REFUSALS:
            self._refused(seconds, head, now)
        else:
            self._wrong(f"status {status}", body, now)

    def failed(self, kind: str, now: float) -> None:
        """A request ended without an answer."""
        self._wrong(kind, kind.encode(), now)

    def _good(self, seconds: float, after: float) -> None:
        result = self.result
        result.latency.add(seconds)
        if after <= result.seconds:
            result.ok_in_time += 1
        index = int(after)
        second = result.series[index] if index < len(result.series) else result.second(after)
        second.ok += 1
        if seconds > second.slowest:
            second.slowest = seconds

    def _refused(self, seconds: float, head: bytes, now: float) -> None:
        self.result.refused.add(seconds)
        self.result.second(now - self.started).refused += 1
        with contextlib.suppress(KeyError, ValueError):  # one that does not say it; the counts differ
            self.result.retry_after.add(float(headers(head)["retry-after"]))

    def _wrong(self, kind: str, body: bytes, now: float) -> None:
        self.result.errors[kind] += 1
        self.result.second(now - self.started).errors += 1
        if not self.result.first_error:
            self.result.first_error = f"{kind}: {body[:SHOWN].decode('utf-8', 'replace')}"


def headers(head: bytes) -> dict[str, str]:
    """Header lines by lower-case name."""
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.decode("latin-1").lower(): value.strip().decode("latin-1") for name, _, value in pairs}
