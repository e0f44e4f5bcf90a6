"""The socket in an agent's home, and asking there where nobody answers."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from forwardpass.edge.status import ask, bind_unix
from forwardpass.errors import NotReady


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


def test_one_that_hangs_up_is_told(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "agent.sock") as sock:
        sock.listen()
        thread = threading.Thread(target=_answer, args=(sock, b""))
        thread.start()
        with pytest.raises(NotReady, match=f"the agent of {tmp_path} cannot be asked: Remote end closed"):
            ask(tmp_path / "agent.sock")
        thread.join()


def test_an_answer_that_is_an_error_is_told(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "agent.sock") as sock:
        sock.listen()
        answer = b'HTTP/1.1 404 No\r\nContent-Length: 14\r\n\r\n{"error":"no"}'
        thread = threading.Thread(target=_answer, args=(sock, answer))
        thread.start()
        with pytest.raises(NotReady, match=f"^{tmp_path}: no$"):
            ask(tmp_path / "agent.sock")
        thread.join()


def _answer(sock: socket.socket, content: bytes) -> None:
    connection, _ = sock.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(content)
