"""An HTTP proxy before an object store: it counts what passes, and fails where a test wants it to."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BREAK = 0  # the connection ends without an answer, and nothing was passed on
LOSE = -1  # the request is passed on, and its answer is lost


@dataclass(frozen=True)
class Exchange:
    """One request, and the bytes of its answer's body."""

    method: str
    path: str
    range: str | None
    received: int


@dataclass
class Proxy:
    """``fail`` gives, of a method and path, the status to refuse with, ``BREAK``, ``LOSE``, or None to let it pass."""

    target: str
    url: str = ""
    fail: Callable[[str, str], int | None] = lambda method, path: None
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def received(self) -> int:
        return sum(exchange.received for exchange in self.exchanges)


@contextlib.contextmanager
def running(target: str) -> Iterator[Proxy]:
    """A proxy before the store at this URL."""
    proxy = Proxy(target)

    class Handler(_Handler):
        passing = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    passing: Proxy

    def _pass(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.passing.fail(self.command, self.path)
        if status not in (None, LOSE):
            self.passing.exchanges.append(Exchange(self.command, self.path, self.headers.get("Range"), 0))
            if status != BREAK:
                self.send_response_only(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            return
        onward = http.client.HTTPConnection(urlsplit(self.passing.target).netloc, timeout=20)
        with contextlib.closing(onward):
            onward.request(self.command, self.path, body or None, dict(self.headers))
            answer = onward.getresponse()
            content = answer.read()
        self.passing.exchanges.append(Exchange(self.command, self.path, self.headers.get("Range"), len(content)))
        if status == LOSE:
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""
