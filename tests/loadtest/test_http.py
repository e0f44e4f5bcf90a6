"""Answers in every shape and piece that HTTP/1.1 allows, byte by byte as well."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from forwardpass.errors import InvalidInput
from forwardpass.loadtest import HttpTarget, closed, http_request, run
from forwardpass.loadtest.http import HttpConnection
from forwardpass.loadtest.target import Connection


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        self.calls.append((status, body, connection.closing))

    def broken(self, connection: Connection, kind: str) -> None:
        self.calls.append((kind,))

    def lost(self, connection: Connection) -> None:
        self.calls.append(("lost",))


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.aborted = True


def after_sending() -> tuple[HttpConnection, Heard, Wire]:
    heard, wire = Heard(), Wire()
    connection = HttpConnection(heard)
    connection.connection_made(wire)
    connection.send(b"request")
    assert wire.sent == b"request"
    return connection, heard, wire


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", (200, b"hello", False)),
    (b"HTTP/1.1 503 No\r\nX: y\r\nCONTENT-LENGTH:   0\r\nconnection: close\r\n\r\n", (503, b"", True)),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", (200, b"a", False)),
    (b"HTTP/1.1 204 None\r\nX: y\r\n\r\n", (204, b"", False)),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123\r\n0\r\n\r\r\n0\r\n\r\n",
        (200, b"abc0123\r\n0\r\n\r", False),
    ),
]


@pytest.mark.parametrize(("answer", "told"), ANSWERS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_whole_answers_from_pieces(answer: bytes, told: tuple[Any, ...], size: int) -> None:
    connection, heard, _ = after_sending()
    for at in range(0, len(answer), size):
        assert heard.calls == []
        connection.data_received(answer[at : at + size])
    assert heard.calls == [told]
    connection.send(b"again")
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nz")
    assert heard.calls == [told, (200, b"z", False)]


def test_a_body_that_ends_with_the_connection() -> None:
    connection, heard, _ = after_sending()
    connection.data_received(b"HTTP/1.0 200 OK\r\n\r\nall")
    connection.data_received(b" of it")
    connection.connection_lost(None)
    assert heard.calls == [(200, b"all of it", True)]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"SMTP ready, and more\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "more bytes than the answer's content-length"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n", "not a valid chunk"),
    ],
)
def test_answers_that_are_none(answer: bytes, kind: str) -> None:
    connection, heard, wire = after_sending()
    connection.data_received(answer)
    connection.data_received(b"more")
    connection.connection_lost(None)
    assert heard.calls == [(kind,)]
    assert wire.aborted


@pytest.mark.parametrize(("error", "kind"), [(None, "connection closed"), (OSError(), "connection reset")])
def test_a_connection_that_ends(error: Exception | None, kind: str) -> None:
    connection, heard, _ = after_sending()
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
    connection.connection_lost(error)
    assert heard.calls == [(kind,)]


def test_one_that_is_left_tells_nothing() -> None:
    connection, heard, wire = after_sending()
    connection.close()
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    connection.connection_lost(None)
    assert heard.calls == []
    assert wire.aborted


def test_an_idle_one_that_the_server_closes() -> None:
    connection, heard, _ = after_sending()
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    connection.connection_lost(None)
    assert heard.calls == [(200, b"", False), ("lost",)]


def test_the_bytes_of_a_request() -> None:
    request = http_request("http://h:1/v2/models/m/infer", b"abc", {"content-type": "text/plain"})
    assert request == (
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: h:1\r\ncontent-length: 3\r\ncontent-type: text/plain\r\n\r\nabc"
    )


def test_an_address_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="https"):
        run(closed(HttpTarget("v1", [b""], url="https://h"), 1, 0.1))


def test_a_connection_that_the_server_closed_is_no_longer_alive() -> None:
    async def ask() -> tuple[bool, bool]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            connection = await HttpTarget("http", [b""], url=url).connect(Heard())
            theirs = listening.accept()[0]
            before = connection.alive()
            theirs.close()
            return before, connection.alive()  # the loop had no turn to notice

    assert run(ask()) == (True, False)
