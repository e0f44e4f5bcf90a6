"""Somebody who asks an agent for predictions all the time, over HTTP on localhost, and keeps what came of each."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LONG = 60.0  # seconds for one answer
NO_NETWORK = 5.0  # seconds; who waits for a network that is cut waits for longer (15, 30), who does not for far less


@dataclass(frozen=True)
class Asked:
    """One request by its id. ``status`` 0: the connection broke. ``outputs``: by name, of its one row."""

    id: str
    row: list[float]
    status: int
    outputs: dict[str, Any]
    seconds: float


class Asker:
    """Asks about ``rows`` in turn over V2, ``pause`` seconds apart; nobody asks while ``turn`` is held."""

    def __init__(self, port: int, model: str, rows: list[list[float]], pause: float, prefix: str = "ask") -> None:
        self.asked: list[Asked] = []
        self.turn = threading.Lock()
        self._port, self._model, self._rows = port, model, rows
        self._pause, self._prefix = pause, prefix
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def answered(self) -> list[Asked]:
        return [item for item in self.asked if item.status == 200]

    def start(self) -> None:
        """In the network namespace that the caller is in."""
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            number = len(self.asked)
            row = self._rows[number % len(self._rows)]
            with self.turn:
                self.asked.append(ask_once(self._port, self._model, f"{self._prefix}-{number}", row))


def ask_once(port: int, model: str, id: str, row: list[float]) -> Asked:
    """One request on a connection of its own."""
    tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    try:
        connection.request("POST", f"/v2/models/{model}/infer", json.dumps({"id": id, "inputs": [tensor]}))
        response = connection.getresponse()
        status, body = response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        status, body = 0, {}
    finally:
        connection.close()
    outputs = {output["name"]: output["data"] for output in body.get("outputs", ())}
    return Asked(id, row, status, outputs, time.monotonic() - began)


@contextmanager
def asking(port: int, model: str, rows: list[list[float]], pause: float = 0.02, prefix: str = "ask") -> Iterator[Asker]:
    """Stopped for sure."""
    asker = Asker(port, model, rows, pause, prefix)
    asker.start()
    try:
        yield asker
    finally:
        asker.stop()


def service(status: dict[str, Any], name: str) -> dict[str, Any]:
    """Of an agent's status, the part of a service: ``outbox`` or ``updates``; empty where it is not there yet."""
    return next((item for item in status["services"] if item["name"] == name), {})
