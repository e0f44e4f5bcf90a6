"""One HTTP request from a device: a new connection, one answer, then it is closed.

HTTP/1.1 over asyncio's streams, parsed by h11; https with the system's certificates (``SSL_CERT_FILE`` names others).
Every request has limits of time and size. Follows no redirects, reads no proxy settings, keeps no connections, and
does not know what is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from forwardpass.address import Address
from forwardpass.errors import InvalidInput, NotReady, TimedOut, TooLarge, words

TIMEOUT = 30.0  # seconds for all of a request
MOST_BYTES = 8 * 1024 * 1024  # of an answer's body
CHUNK = 64 * 1024


@dataclass(frozen=True)
class Response:
    """Header names are in small letters; of several with one name, the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float:
        """Seconds that the server asks to wait; 0 where it does not say."""
        text = self.headers.get("retry-after", "").strip()
        return float(text) if text.isascii() and text.isdigit() else 0.0


async def get(url: str, headers: Mapping[str, str] | None = None, *, timeout: float = TIMEOUT) -> Response:
    """As ``request``."""
    return await request("GET", url, b"", headers, timeout=timeout)


async def post(
    url: str, body: bytes, headers: Mapping[str, str] | None = None, *, timeout: float = TIMEOUT
) -> Response:
    """As ``request``."""
    return await request("POST", url, body, headers, timeout=timeout)


async def request(
    method: str,
    url: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = TIMEOUT,
    most_bytes: int = MOST_BYTES,
) -> Response:
    """The answer, whatever its status.

    Raises ``InvalidInput`` for a URL or a header that cannot be sent, ``NotReady`` where there is no whole answer,
    ``TimedOut`` where it takes longer than ``timeout`` seconds, ``TooLarge`` where its body is over ``most_bytes``.
    """
    address = Address.of(url)
    head = _head(method, address, body, headers or {})
    try:
        async with asyncio.timeout(timeout):
            return await _exchange(address, head, body, most_bytes)
    except TimeoutError:
        raise TimedOut(f"{address.origin} did not answer within {timeout:g} s") from None
    except (OSError, h11.RemoteProtocolError, EOFError) as error:
        why = words(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise NotReady(f"{address.origin} cannot be reached: {why}") from None


def _head(method: str, address: Address, body: bytes, headers: Mapping[str, str]) -> h11.Request:
    lines = {"connection": "close", "content-length": str(len(body)), "accept-encoding": "identity"}
    lines |= {name.lower(): value for name, value in headers.items()}
    try:
        return h11.Request(method=method, target=address.target, headers=[("host", address.authority), *lines.items()])
    except (h11.LocalProtocolError, UnicodeError):  # what they say shows the header, which may be a secret
        raise InvalidInput(f"the request to {address.origin} cannot be sent: a header holds what none may") from None


async def _exchange(address: Address, head: h11.Request, body: bytes, most_bytes: int) -> Response:
    """One connection: all of the request out, all of the answer in."""
    context = await asyncio.to_thread(_certificates) if address.tls else None
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    try:
        protocol = h11.Connection(h11.CLIENT)
        sent = (protocol.send(head), protocol.send(h11.Data(body)), protocol.send(h11.EndOfMessage()))
        writer.writelines([part for part in sent if part])  # not drained: a refusal may come before all of it is out
        return await _answer(protocol, reader, most_bytes)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(protocol: h11.Connection, reader: asyncio.StreamReader, most_bytes: int) -> Response:
    head: h11.Response | None = None
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(CHUNK))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > most_bytes:
                raise TooLarge(f"the answer is over {most_bytes} bytes, the most that is read")
        elif isinstance(event, h11.EndOfMessage):
            break
        elif isinstance(event, h11.ConnectionClosed):
            raise EOFError("the connection was closed before an answer")
    if head is None:
        raise EOFError("the connection was closed before an answer")
    return Response(
        head.status_code, {name.decode(): value.decode("latin-1") for name, value in head.headers}, bytes(body)
    )


@functools.cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
