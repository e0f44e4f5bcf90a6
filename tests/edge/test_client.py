from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from forwardpass.edge import client
from forwardpass.errors import InvalidInput, NotReady, TimedOut, TooLarge

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that does with each connection what it is told; its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                await handler(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    kind = "http" if context is None else "https"
    try:
        yield f"{kind}://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were aborted end in the loop's next turn


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Its first line, its headers, its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
    return head[0], headers, await reader.readexactly(int(headers.get("content-length", 0)))


def answering(answer: bytes, seen: list[tuple[str, dict[str, str], bytes]]) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    return handler


def asked(answer: bytes, method: str = "POST", path: str = "/some/path?of=it", body: bytes = b"hello", **limits: int):  # type: ignore[no-untyped-def]
    """The response to a request that a server answers so, and what the server saw."""
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def main() -> client.Response:
        async with serving(answering(answer, seen)) as url:
            return await client.request(method, url + path, body, {"X-Token": "abc"}, timeout=20.0, **limits)

    return asyncio.run(main()), seen[0]


def test_a_request_and_its_answer() -> None:
    response, (line, headers, body) = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRetry-After: 7\r\n\r\nworld")
    assert (response.status, response.body, response.ok, response.retry_after) == (200, b"world", True, 7.0)
    assert (line, body) == ("POST /some/path?of=it HTTP/1.1", b"hello")
    assert (headers["x-token"], headers["content-length"], headers["connection"]) == ("abc", "5", "close")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwor\r\n2\r\nld\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nworld",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld",
    ],
)
def test_the_ways_in_which_an_answer_ends(answer: bytes) -> None:
    assert asked(answer)[0].body == b"world"


def test_a_refusal_is_an_answer() -> None:
    response, _ = asked(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
    assert (response.status, response.ok, response.body, response.retry_after) == (503, False, b"no", 0.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwo",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwo",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_what_is_no_whole_answer_is_none(answer: bytes) -> None:
    with pytest.raises(NotReady, match=r"http://localhost:\d+ cannot be reached: "):
        asked(answer)


def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    with pytest.raises(TooLarge, match="over 1000 bytes"):
        asked(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, most_bytes=1000)


def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with serving(silent) as url:
            await client.get(url, timeout=0.05)

    with pytest.raises(TimedOut, match=r"did not answer within 0\.05 s"):
        asyncio.run(main())


def test_a_refusal_before_all_was_sent_is_heard() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(60.0)  # reads nothing more

    async def main() -> client.Response:
        async with serving(refuse) as url:
            return await client.post(url, bytes(12 * 1024 * 1024), timeout=20.0)

    assert asyncio.run(main()).status == 413


def test_nobody_listens() -> None:
    async def main() -> None:
        async with serving(answering(b"", [])) as url:
            closed = url
        await client.get(closed)

    with pytest.raises(NotReady, match="cannot be reached"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "no URL that can be asked"),
        ("http://a..b/", "no URL that can be asked"),
        ("http://me:secret@host/", "give those as a header"),
    ],
)
def test_a_url_that_cannot_be_asked(url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        asyncio.run(client.get(url))
    assert "secret" not in raised.value.message


def test_a_header_cannot_smuggle_another() -> None:
    with pytest.raises(InvalidInput, match="cannot be sent"):
        asyncio.run(client.get("http://localhost:1/", {"x-a": "b\r\nx-c: d"}))


@pytest.mark.parametrize("place", ["[::1]:1", "my_host:1", "127.0.0.1:1"])
def test_hosts_of_all_forms(place: str) -> None:
    with pytest.raises((NotReady, TimedOut), match=f"http://{re.escape(place)} "):
        asyncio.run(client.get(f"http://{place}/", timeout=20.0))


def test_odd_characters_of_a_path_are_quoted() -> None:
    _, (line, _, _) = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", "/ä b%20c/x:y", b"")
    assert line == "GET /%C3%A4%20b%20c/x:y HTTP/1.1"


def test_https_is_checked_against_known_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate, *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def main() -> client.Response:
        client._certificates.cache_clear()
        async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", []), context) as url:
            return await client.get(url, timeout=20.0)

    with pytest.raises(NotReady, match="certificate"):
        asyncio.run(main())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert asyncio.run(main()).body == b"ok"
    client._certificates.cache_clear()
