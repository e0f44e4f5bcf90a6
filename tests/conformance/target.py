"""The server under test, asked with raw bytes: no client library stands between a clause and the wire.

Works against any server of the protocol; knows nothing of how one is built.
"""

from __future__ import annotations

import functools
import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 20.0
Json = dict[str, Any]


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
    def good(self) -> Json:
        """The object that it holds, which must be one."""
        assert self.status == 200, self
        assert self.headers["content-type"].partition(";")[0] == "application/json", self
        said = self.json
        assert isinstance(said, dict), said
        return said

    @property
    def error(self) -> str:
        """The message of a failed request, which must look as the protocol says."""
        assert 400 <= self.status < 600, self
        said = self.json
        assert isinstance(said, dict), said
        assert isinstance(said["error"], str), said
        assert said["error"]
        return str(said["error"])


@dataclass(frozen=True)
class Target:
    """``url`` has no slash at its end, ``grpc`` is HOST:PORT or None; ``ours`` has the kit's own models."""

    url: str
    grpc: str | None = None
    ours: bool = False

    def ask(self, method: str, path: str, body: bytes = b"", **headers: object) -> Answer:
        """One request on a connection of its own; an underscore in a header's name is a dash."""
        where = urlsplit(self.url)
        lines = [f"{method} {where.path}{path} HTTP/1.1", f"Host: {where.netloc}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        data = "\r\n".join([*lines, "", ""]).encode() + body
        with socket.create_connection((where.hostname, where.port or 80), TIMEOUT) as sock:
            sock.sendall(data)
            return _read(sock, method)

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, content: Any, **headers: object) -> Answer:
        return self.ask("POST", path, json.dumps(content).encode(), **{"Content_Type": "application/json"} | headers)

    def metadata(self, model: str) -> Json:
        return _said(self, f"/v2/models/{model}")

    def infer(self, model: str, inputs: list[Json], **more: Any) -> Answer:
        return self.post(f"/v2/models/{model}/infer", {"inputs": inputs, **more})

    @property
    def extensions(self) -> set[str]:
        return set(_said(self, "/v2")["extensions"])


@functools.cache
def _said(target: Target, path: str) -> Json:
    """What stays the same while the kit runs; not to be changed."""
    return target.get(path).good


def _read(sock: socket.socket, method: str) -> Answer:
    response = http.client.HTTPResponse(sock, method=method)
    try:
        response.begin()
        pairs = [(name.lower(), value) for name, value in response.getheaders()]
        return Answer(response.status, dict(pairs), response.read())
    finally:
        response.close()
