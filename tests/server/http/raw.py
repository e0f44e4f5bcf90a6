"""HTTP as bytes on a socket: what a client library would never send, and all that came back.

Knows nothing of the server. Every read has a timeout, so that a test fails instead of hanging.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

TIMEOUT = 20.0


@dataclass(frozen=True)
class Answer:
    """``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error, which must look as the protocol says."""
        assert self.status >= 400, self
        said = self.json
        assert list(said) == ["error"], said
        for trace in ("Traceback", 'File "', ".py"):
            assert trace not in said["error"], said
        return str(said["error"])


class Wire:
    """One connection."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(TIMEOUT)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *args: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Wire:
        self.sock.sendall(data)
        return self

    def finish(self) -> Wire:
        """No more will be sent; answers are still read."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def answer(self, *, has_body: bool = True) -> Answer:
        """The next answer. Raises ``EOFError`` where the connection ends before its end."""
        head = self._until(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        protocol, status, _ = line.split(" ", 2)
        assert protocol == "HTTP/1.1", line
        pairs = [entry.split(": ", 1) for entry in lines if entry]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header is there twice: {lines}"
        if int(status) == 100:
            return Answer(100, headers, b"")
        return Answer(int(status), headers, self._exactly(int(headers["content-length"])) if has_body else b"")

    def answers(self, count: int) -> list[Answer]:
        return [self.answer() for _ in range(count)]

    def at_end(self) -> bool:
        """Whether the server says nothing more and closes; raises where it does neither."""
        return not self._read and not self._more()

    def _until(self, end: bytes) -> bytes:
        while end not in self._read:
            self._need_more()
        head, self._read = self._read.split(end, 1)
        return head

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            self._need_more()
        body, self._read = self._read[:size], self._read[size:]
        return body

    def _need_more(self) -> None:
        if not self._more():
            raise EOFError(f"the connection ended after {self._read!r}")

    def _more(self) -> bool:
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._read += data
        return bool(data)


def request(method: str, url: str, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    """The bytes of a request; ``headers`` are whole lines."""
    lines = [f"{method} {url} HTTP/1.1", "Host: test", *headers]
    if length and (body or method == "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def post(url: str, content: Any, *headers: str) -> bytes:
    """A POST of JSON, or of bytes as they are."""
    return request("POST", url, content if isinstance(content, bytes) else json.dumps(content).encode(), *headers)


def ask(port: int, data: bytes) -> Answer:
    """The answer to one request on a connection of its own."""
    with Wire(port) as wire:
        return wire.send(data).answer()


def chunked(body: bytes, size: int = 7) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def eventually(true: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """Wait until ``true()`` holds; returns what it gave."""
    end = monotonic() + timeout
    while not (value := true()):
        assert monotonic() < end, "it never came true"
        sleep(0.02)
    return value


def sample(port: int, metric: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    lines = ask(port, request("GET", "/metrics")).body.decode().splitlines()
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    found = [line for line in lines if line.split("{")[0] == metric and all(label in line for label in wanted)]
    return sum(float(line.rpartition(" ")[2]) for line in found)


NOISE = ("Traceback", "Exception in", "never retrieved", "Fatal error", "Task was destroyed")


@contextlib.contextmanager
def quiet(log: Any) -> Iterator[None]:
    """Nothing in the server's log, from here on, looks like a fault of the server's own."""
    before = len(log.read_bytes())
    yield
    said = log.read_bytes()[before:].decode()
    assert not [word for word in NOISE if word in said], said
