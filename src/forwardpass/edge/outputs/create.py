"""An entry of ``outputs:`` in ``agent.yaml`` to the output it names, its library loaded only then.

    - {type: mqtt, url: mqtt://broker:1883, topic: "motors/{source}/health"}
    - {type: webhook, url: https://example.org/hook}
    - {type: file, path: predictions.jsonl}
    - {type: command, command: [/usr/local/bin/tell]}

Each kind is a sender in a module of its own, with the dataclass ``Config`` that says what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forwardpass.edge.kinds import load
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.outputs.queue import Queue
from forwardpass.errors import InvalidSettings

_OUTPUTS = {
    "mqtt": ("forwardpass.edge.outputs.mqtt", "MqttSender", "mqtt"),
    "webhook": ("forwardpass.edge.outputs.webhook", "WebhookSender", ""),
    "file": ("forwardpass.edge.outputs.file", "FileSender", ""),
    "command": ("forwardpass.edge.outputs.command", "CommandSender", ""),
}


def create_output(config: Mapping[str, Any], home: Path | None = None) -> Output:
    """The output that one entry describes; it opens nothing before the first message.

    Paths that are not absolute are taken from ``home`` (default: the current folder). Raises
    ``InvalidSettings`` for an unknown type or key, a value that makes no sense, or a library that
    is not installed.
    """
    cls, settings = load(_OUTPUTS, "outputs", config)
    if settings.max_waiting < 1:
        raise InvalidSettings(f"outputs: {config['type']}: max_waiting must be at least 1, got {settings.max_waiting}")
    sender = cls(settings, home or Path())
    return Queue(sender.name, sender, settings.max_waiting)
