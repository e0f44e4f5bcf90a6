"""What a device's owner writes down for the agent: ``agent.yaml`` in its home, and flags that win over it.

Knows no input, output or update: what configures those stays a mapping here and is decoded by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from forwardpass.address import Address
from forwardpass.config import decode, decode_mapping, doc, read_yaml
from forwardpass.edge.updates.release import NAME
from forwardpass.errors import InvalidInput, InvalidSettings

SETTINGS_FILE = "agent.yaml"
MIB = 1024 * 1024
MILLION = 1_000_000
HOUR, DAY = 3600, 86400  # seconds


def number(text: str, least: float, most: float) -> dict[str, Any]:
    """``doc`` of a field that takes numbers from ``least`` to ``most``."""
    return {**doc(text), "range": (least, most)}


def _check_numbers(settings: Any) -> None:
    """Raises ``ValueError`` for one out of its range, as infinity and what is no number are out of all."""
    for item in fields(settings):
        value, allowed = getattr(settings, item.name), item.metadata.get("range")
        if allowed and value is not None and not allowed[0] <= value <= allowed[1]:
            raise ValueError(f"{item.name} must be from {allowed[0]} to {allowed[1]}, got {value}")


def _check_url(name: str, url: str | None) -> None:
    """Raises ``ValueError`` for what is not the URL of a web server."""
    try:
        if url is not None:
            Address.base(url)
    except InvalidInput as error:
        raise ValueError(f"{name}: {error.message}") from None


@dataclass(frozen=True)
class OutboxSettings:
    """What is kept for the cloud, and what of it may leave the device."""

    most_bytes: int = field(
        default=64 * MIB, metadata=number("most bytes that may wait on the device", 1 << 16, 1 << 40)
    )
    privacy: Literal["nothing", "outputs", "unsure", "all"] = field(
        default="outputs", metadata=doc("what may leave the device: `nothing`, `outputs`, `unsure` or `all`")
    )
    usage: bool | None = field(
        default=None, metadata=doc("whether counts of predictions may leave; default: unless `privacy` is `nothing`")
    )
    upload_every: float = field(
        default=10.0, metadata=number("seconds between uploads while there is a network", 0.01, DAY)
    )
    unsure_below: float = field(default=0.8, metadata=number("confidence below which a row counts as unsure", 0, 1))

    def __post_init__(self) -> None:
        _check_numbers(self)


@dataclass(frozen=True)
class WatchSettings:
    """When a new version is taken back after it was switched to."""

    seconds: float = field(default=60.0, metadata=number("how long it is watched after the switch", 0, 30 * DAY))
    predictions: int = field(default=20, metadata=number("least predictions by which it is judged", 0, MILLION))
    crashes: int = field(default=0, metadata=number("most times its worker may die", 0, MILLION))
    more_errors: float = field(
        default=0.05, metadata=number("most by which its share of errors may be above before", 0, 1)
    )
    p99: float | None = field(
        default=None,
        metadata=number("most seconds that 99 of 100 predictions may take; default: the model's timeout", 0.0001, HOUR),
    )

    def __post_init__(self) -> None:
        _check_numbers(self)


@dataclass(frozen=True)
class AgentSettings:
    """All of ``agent.yaml``."""

    port: int = field(default=8100, metadata=number("HTTP port on localhost; 0 takes a free one", 0, 65535))
    inputs: tuple[dict[str, Any], ...] = field(default=(), metadata=doc("inputs besides HTTP, each with its `type`"))
    outputs: tuple[dict[str, Any], ...] = field(default=(), metadata=doc("where every prediction goes, by `type`"))
    mqtt: dict[str, Any] = field(default_factory=dict, metadata=doc("the broker that rules publish to"))
    updates: str | None = field(default=None, metadata=doc("URL of the update repository"))
    channel: str = field(default="stable", metadata=doc("channel of updates that this device follows"))
    check_every: float = field(default=3600.0, metadata=number("seconds between looks for an update", 1, 30 * DAY))
    cloud: str | None = field(
        default=None, metadata=doc("base URL of the server that takes the outbox and answers for remote models")
    )
    cloud_token_file: str | None = field(
        default=None,
        metadata=doc("file with the bearer token that the `cloud` asks for; a path in the home, or absolute"),
    )
    outbox: OutboxSettings | None = field(
        default=None, metadata=doc("what is kept for the cloud; default: there is an outbox where there is a `cloud`")
    )
    watch: WatchSettings = field(default_factory=WatchSettings, metadata=doc("when an update is taken back"))
    max_body_bytes: int = field(default=16 * MIB, metadata=number("largest request body", 1, 1 << 32))
    max_connections: int = field(default=64, metadata=number("most open connections; more are refused (503)", 1, 65535))
    receive_timeout: float = field(
        default=30.0, metadata=number("seconds in which a request must have arrived", 0.1, HOUR)
    )
    send_timeout: float = field(default=30.0, metadata=number("seconds a client may leave an answer unread", 0.1, HOUR))
    keep_alive: float = field(default=75.0, metadata=number("seconds an idle connection is kept", 0.1, DAY))
    drain_timeout: float = field(
        default=10.0, metadata=number("seconds that what is under way may take after SIGTERM", 0, HOUR)
    )
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info", metadata=doc("`debug`, `info`, `warning` or `error`")
    )

    def __post_init__(self) -> None:
        _check_numbers(self)
        if not NAME.fullmatch(self.channel):
            raise ValueError(
                f"channel must be letters, digits, '.', '_' and '-', a letter or digit first, got {self.channel!r}"
            )
        _check_url("updates", self.updates)
        _check_url("cloud", self.cloud)
        if self.cloud_token_file is not None and self.cloud is None:
            raise ValueError("cloud_token_file is for the `cloud`, which is not given")


def read_agent_settings(home: Path, flags: Mapping[str, Any]) -> AgentSettings:
    """The settings of a home; flags that are None count as not given. Raises ``InvalidSettings``."""
    file = home / SETTINGS_FILE
    written = decode_mapping(read_yaml(file, InvalidSettings), str(file), InvalidSettings) if file.is_file() else {}
    given = {name: value for name, value in flags.items() if value is not None}
    decode(AgentSettings, given, "the command line", InvalidSettings)  # first: the file is not to blame for a flag
    return decode(AgentSettings, {**written, **given}, str(file), InvalidSettings)
