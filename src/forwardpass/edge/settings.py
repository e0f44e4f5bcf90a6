"""What a device's owner writes down for the agent: ``agent.yaml`` in its home, and flags that win over it.

Knows no input, output or update: what configures those stays a mapping here and is decoded by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from forwardpass.config import decode, decode_mapping, doc, read_yaml
from forwardpass.errors import InvalidSettings

SETTINGS_FILE = "agent.yaml"
MIB = 1024 * 1024


@dataclass(frozen=True)
class OutboxSettings:
    """What is kept for the cloud, and what of it may leave the device."""

    most_bytes: int = field(default=64 * MIB, metadata=doc("most bytes that may wait on the device"))
    privacy: Literal["nothing", "outputs", "unsure", "all"] = field(
        default="outputs", metadata=doc("what may leave the device: `nothing`, `outputs`, `unsure` or `all`")
    )
    usage: bool | None = field(
        default=None, metadata=doc("whether counts of predictions may leave; default: unless `privacy` is `nothing`")
    )
    upload_every: float = field(default=10.0, metadata=doc("seconds between uploads while there is a network"))
    unsure_below: float = field(default=0.8, metadata=doc("confidence below which a row counts as unsure"))


@dataclass(frozen=True)
class WatchSettings:
    """When a new version is taken back after it was switched to."""

    seconds: float = field(default=60.0, metadata=doc("how long it is watched after the switch"))
    predictions: int = field(default=20, metadata=doc("least predictions by which it is judged"))
    crashes: int = field(default=0, metadata=doc("most times its worker may die"))
    more_errors: float = field(default=0.05, metadata=doc("most by which its share of errors may be above before"))
    p99: float | None = field(
        default=None, metadata=doc("most seconds that 99 of 100 predictions may take; default: the model's timeout")
    )


@dataclass(frozen=True)
class AgentSettings:
    """All of ``agent.yaml``."""

    port: int = field(default=8100, metadata=doc("HTTP port on localhost; 0 takes a free one"))
    inputs: tuple[dict[str, Any], ...] = field(default=(), metadata=doc("inputs besides HTTP, each with its `type`"))
    outputs: tuple[dict[str, Any], ...] = field(default=(), metadata=doc("where every prediction goes, by `type`"))
    mqtt: dict[str, Any] = field(default_factory=dict, metadata=doc("the broker that rules publish to"))
    updates: str | None = field(default=None, metadata=doc("URL of the update repository"))
    channel: str = field(default="stable", metadata=doc("channel of updates that this device follows"))
    check_every: float = field(default=3600.0, metadata=doc("seconds between looks for an update"))
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
    max_body_bytes: int = field(default=16 * MIB, metadata=doc("largest request body"))
    max_connections: int = field(default=64, metadata=doc("most open connections; more are refused (503)"))
    receive_timeout: float = field(default=30.0, metadata=doc("seconds in which a request must have arrived"))
    send_timeout: float = field(default=30.0, metadata=doc("seconds a client may leave an answer unread"))
    keep_alive: float = field(default=75.0, metadata=doc("seconds an idle connection is kept"))
    drain_timeout: float = field(default=10.0, metadata=doc("seconds that what is under way may take after SIGTERM"))
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info", metadata=doc("`debug`, `info`, `warning` or `error`")
    )


def read_agent_settings(home: Path, flags: Mapping[str, Any]) -> AgentSettings:
    """The settings of a home; flags that are None count as not given. Raises ``InvalidSettings``."""
    file = home / SETTINGS_FILE
    written = decode_mapping(read_yaml(file, InvalidSettings), str(file), InvalidSettings) if file.is_file() else {}
    given = {name: value for name, value in flags.items() if value is not None}
    settings = decode(AgentSettings, {**written, **given}, str(file), InvalidSettings)
    if not 0 <= settings.port <= 65535:
        where = "--port" if "port" in given else f"{file}: port"
        raise InvalidSettings(f"{where} must be between 0 and 65535, got {settings.port}")
    if settings.cloud_token_file is not None and settings.cloud is None:
        raise InvalidSettings(f"{file}: cloud_token_file is for the `cloud`, which is not given")
    return settings
