"""An entry of ``outputs:`` in ``agent.yaml`` to the output it names, its library loaded only then.

    - {type: mqtt, url: mqtt://broker:1883, topic: "motors/{source}/health"}
    - {type: webhook, url: https://example.org/hook}
    - {type: file, path: predictions.jsonl}
    - {type: command, command: [/usr/local/bin/tell]}

Each kind is a sender in a module of its own, with the dataclass ``Config`` that says what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from forwardpass.config import decode, decode_mapping
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.outputs.queue import Queue
from forwardpass.errors import InvalidSettings, nearest

# type -> (module, class, the extra that brings its library)
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
    kind = decode_mapping(config, "outputs", InvalidSettings).get("type")
    if kind not in _OUTPUTS:
        hint = nearest(str(kind), _OUTPUTS)
        raise InvalidSettings(f"outputs: there is no type {kind!r}.{hint}")
    module, name, extra = _OUTPUTS[kind]
    cls = _load(module, name, extra, kind)
    rest = {key: value for key, value in config.items() if key != "type"}
    settings = decode(cls.Config, rest, f"outputs: {kind}", InvalidSettings)
    if settings.max_waiting < 1:
        raise InvalidSettings(f"outputs: {kind}: max_waiting must be at least 1, got {settings.max_waiting}")
    sender = cls(settings, home or Path())
    return Queue(sender.name, sender, settings.max_waiting)


def _load(module: str, name: str, extra: str, kind: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        if not extra:
            raise
        raise InvalidSettings(
            f"outputs: {kind} needs {error.name!r}, which is not installed: pip install 'forwardpass[{extra}]'"
        ) from None
