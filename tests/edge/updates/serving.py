"""A web server for a folder, in a thread, over a link that can be cut, and with files that can be swapped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Change = Callable[[bytes], bytes]


class Link:
    """What lies between a device and the folder."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []  # paths, in order
        self.left: int | None = None  # bytes until it is cut; None for never
        self.changes: dict[str, Change] = {}  # by the end of the path

    def chunks(self) -> list[str]:
        """The chunks that were asked for."""
        return [path for path in self.asked if path.startswith("/chunks/")]


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def __init__(self, link: Link, *args: object, directory: str) -> None:
        self._link = link
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._link.asked.append(self.path)
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        for end, change in self._link.changes.items():
            content = change(content) if self.path.endswith(end) else content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self._send(content)

    def _send(self, content: bytes) -> None:
        if self._link.left is None:
            self.wfile.write(content)
            return
        self.wfile.write(content[: self._link.left])
        self.close_connection = self._link.left < len(content)
        self._link.left = max(self._link.left - len(content), 0)

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Devices may hang up."""


@contextmanager
def serve(folder: Path) -> Iterator[Link]:
    """The folder on a free port of this machine."""
    link = Link("")
    server = _Server(("127.0.0.1", 0), partial(_Handler, link, directory=str(folder)))
    link.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield link
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
