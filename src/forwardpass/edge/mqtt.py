"""Connections to an MQTT broker, for the input that subscribes and the output that publishes.

MQTT 3.1.1 over TCP or TLS. With a client id the session is persistent: the broker keeps what comes
in while the device is away. A password is read from a file, so that it stands in no settings.
Knows no messages.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomqtt

from forwardpass.config import doc
from forwardpass.errors import InvalidSettings

ANSWER = 5.0  # seconds in which the broker must answer
NO_LINK = (4, 7)  # codes of the library for a connection that is not there any more
PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, kw_only=True)
class Broker:
    """Where the broker is and who we are to it."""

    url: str = field(
        default="mqtt://127.0.0.1:1883", metadata=doc("`mqtt://host:port`, or `mqtts://host:port` for TLS")
    )
    client_id: str | None = field(
        default=None,
        metadata=doc("name of the persistent session; default: of an input from the device's id, of an output none"),
    )
    username: str | None = field(default=None, metadata=doc("user name, where the broker asks for one"))
    password_file: str | None = field(default=None, metadata=doc("file whose first line is the password"))
    ca_file: str | None = field(default=None, metadata=doc("certificates to trust; default: the system's"))
    cert_file: str | None = field(default=None, metadata=doc("the device's own certificate"))
    key_file: str | None = field(default=None, metadata=doc("the key of `cert_file`"))
    keepalive: int = field(default=30, metadata=doc("seconds after which a silent broker counts as gone, nearly"))

    def __post_init__(self) -> None:
        _place(self.url)
        if self.keepalive < 1:
            raise InvalidSettings(f"mqtt: keepalive must be at least 1 second, got {self.keepalive}")


@asynccontextmanager
async def connect(broker: Broker, client_id: str | None, *, by_hand: bool = False) -> AsyncIterator[aiomqtt.Client]:
    """A connection for as long as the block runs. Raises ``aiomqtt.MqttError`` and ``OSError``.

    Without a ``client_id`` the session ends with the connection. ``by_hand``: messages are acknowledged by
    ``acknowledge``; else when they have arrived.
    """
    scheme, host, port = _place(broker.url)
    client = aiomqtt.Client(
        host,
        port,
        username=broker.username,
        password=_password(broker),
        identifier=client_id,
        clean_session=client_id is None,
        tls_context=_tls(broker) if scheme == "mqtts" else None,
        keepalive=broker.keepalive,
        timeout=ANSWER,
    )
    _inside(client).manual_ack_set(by_hand)
    _inside(client).on_connect = partial(_keep_flags, _inside(client).on_connect)
    await _finish(asyncio.ensure_future(client.__aenter__()), client)
    try:
        yield client
    finally:
        with suppress(aiomqtt.MqttError):  # a link that is dead cannot be closed politely
            await client.__aexit__(None, None, None)


def acknowledge(client: aiomqtt.Client, number: int) -> None:
    """The message of this number, which came with QoS 1 by this connection, need not be sent again."""
    _inside(client).ack(number, 1)


def reason(error: Exception) -> str:
    """What went wrong with a connection. Of the library's words only those that say something."""
    if not isinstance(error, aiomqtt.MqttCodeError):
        return str(error)
    if error.args:  # then its code is no error's
        return str(error.args[0])
    return "the connection broke" if error.rc in NO_LINK else str(error).partition("] ")[2].rstrip(".")


def session_present(client: aiomqtt.Client) -> bool:
    """Whether the broker had a session of this client when it connected; else it sends nothing again."""
    return bool(_inside(client).user_data_get().session_present)


def _inside(client: aiomqtt.Client) -> Any:
    """The client of paho that aiomqtt drives: it has words for what aiomqtt has not."""
    return client._client


def _keep_flags(on_connect: Callable[..., None], client: Any, userdata: Any, flags: Any, *more: Any) -> None:
    """Keep what the broker says of a connection where ``session_present`` finds it."""
    client.user_data_set(flags)
    on_connect(client, userdata, flags, *more)


async def _finish(opening: asyncio.Future[aiomqtt.Client], client: aiomqtt.Client) -> None:
    """Wait until connected. Cancelled meanwhile, the socket that a thread is opening is closed before this ends."""
    try:
        await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        if opening.exception() is None:
            with suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)
        raise


def _place(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ``InvalidSettings``."""
    if "@" in url:  # before anything else is wrong with it, and is said with a password in it
        raise InvalidSettings("mqtt: url must hold no user; say username and password_file instead")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        host = ""
    if not host:
        raise InvalidSettings(f"mqtt: url must be like mqtt://host:1883 or mqtts://host:8883, got {url!r}")
    return scheme, host, port


def _password(broker: Broker) -> str | None:
    if broker.password_file is None:
        return None
    try:
        return Path(broker.password_file).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"mqtt: password_file {broker.password_file} cannot be read: {error}") from None


def _tls(broker: Broker) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        context.sslsocket_class = _ClosedWhereRefused
        if broker.cert_file is not None:
            context.load_cert_chain(broker.cert_file, broker.key_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"mqtt: the certificates cannot be read: {error}") from None
    return context


class _ClosedWhereRefused(ssl.SSLSocket):
    """A socket that is closed where the handshake fails: the library leaves it to the garbage collector, which is
    told to come rarely, and this may fail for months."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise
