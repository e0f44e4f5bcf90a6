"""The status for people, and asking for it where nobody answers."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from forwardpass.edge.status import ask, bind_unix, duration, show
from forwardpass.errors import NotReady

STATUS: dict[str, Any] = {
    "ready": True,
    "reason": "",
    "model": "digits",
    "version": "3",
    "slot": "b",
    "restarts": 2,
    "watching": None,
    "agent": "0.1.0",
    "pid": 17,
    "uptime": 3 * 86400 + 4 * 3600,
    "address": "http://127.0.0.1:8100",
    "last_minute": {"predictions": 12.34, "rows": 20.0, "errors": 0.5, "p50": 0.0012, "p99": None},
    "total": {"predictions": 7, "rows": 8, "errors": 9},
    "follow_up": {"waiting": 0, "dropped": 0, "failed": 0},
    "inputs": [{"name": "mqtt:a", "problem": "no broker", "counts": {"read": 5}}],
    "outputs": [{"name": "file:x", "problem": "", "counts": {"sent": 4}, "waiting": 3}],
    "services": [
        {"name": "outbox", "waiting": {"usage": 2, "record": 0}, "error": "", "last_contact": 940.0},
        {"name": "updates", "state": "waiting", "last_check": 990.0},
    ],
    "last_contact": 940.0,
}


def test_people_see_what_matters() -> None:
    text = show(STATUS, now=1000.0)
    for part in (
        "digits version 3 (slot b), ready",
        "up 3 d 4 h",
        "12.3 predictions/s",
        "p50 1.2 ms, p99 -",
        "7 predictions, 8 rows, 9 errors, 2 worker restarts",
        "mqtt:a: 5 read (no broker)",
        "file:x: 4 sent, 3 waiting",
        "waiting: 2 usage",
        "last check: 10 s ago",
        "contact     1 min ago",
    ):
        assert part in text, part
    assert "follow-up" not in text


def test_what_is_not_well_is_said() -> None:
    follow = {"waiting": 1, "dropped": 2, "failed": 3}
    text = show(
        STATUS | {"ready": False, "reason": "loading", "watching": 61.0, "follow_up": follow, "last_contact": None}
    )
    assert "not ready: loading" in text
    assert "kept in 1 min 1 s" in text
    assert "1 waiting, 2 dropped, 3 failed" in text
    assert "contact     never" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.6, "1 min"), (3725.0, "1 h 2 min"), (-5.0, "0 s"), (90061.0, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"no agent runs with the home .*--home"):
        ask(tmp_path / "agent.sock")
    bind_unix(tmp_path / "agent.sock").close()
    with pytest.raises(NotReady, match="no agent runs"):
        ask(tmp_path / "agent.sock")


@pytest.mark.parametrize("long", ["short", "l" * 150])
def test_what_an_agent_left_is_replaced_and_only_its_owner_may_ask(tmp_path: Path, long: str) -> None:
    path = tmp_path / long / "agent.sock"
    path.parent.mkdir()
    bind_unix(path).close()
    with bind_unix(path) as sock:
        assert path.stat().st_mode & 0o077 == 0
        sock.listen()
        thread = threading.Thread(
            target=_answer, args=(sock, b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"a": [1]}')
        )
        thread.start()
        assert ask(path) == {"a": [1]}
        thread.join()


def test_an_answer_that_is_an_error_is_told(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "agent.sock") as sock:
        sock.listen()
        answer = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
        thread = threading.Thread(target=_answer, args=(sock, answer))
        thread.start()
        with pytest.raises(NotReady, match="answered 500: no"):
            ask(tmp_path / "agent.sock")
        thread.join()


def _answer(sock: socket.socket, content: bytes) -> None:
    connection, _ = sock.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(content)
