"""An entry of ``inputs:`` in ``agent.yaml`` to the input it names, its library loaded only then.

- {type: mqtt, topics: [motors/+], url: mqtt://broker:1883}
- {type: folder, path: /var/spool/pictures}
- {type: stdin}
- {type: video, url: rtsp://camera/stream, fps: 2}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forwardpass.edge.inputs.base import Input
from forwardpass.edge.kinds import load
from forwardpass.errors import InvalidSettings

_INPUTS = {
    "mqtt": ("forwardpass.edge.inputs.mqtt", "MqttInput", "mqtt"),
    "folder": ("forwardpass.edge.inputs.folder", "FolderInput", ""),
    "stdin": ("forwardpass.edge.inputs.stdin", "StdinInput", ""),
    "video": ("forwardpass.edge.inputs.video", "VideoInput", "video"),
}


def create_inputs(configs: Sequence[Mapping[str, Any]], device: str = "", home: Path | None = None) -> list[Input]:
    """All of them, each as ``create_input`` does. Standard input named twice is ``InvalidSettings`` too."""
    if sum(config.get("type") == "stdin" for config in configs) > 1:
        raise InvalidSettings("inputs: stdin stands there more than once; there is one standard input, name it once")
    return [create_input(config, device, home) for config in configs]


def create_input(config: Mapping[str, Any], device: str = "", home: Path | None = None) -> Input:
    """The input that one entry describes, not yet running.

    ``device`` names this device to a broker, paths that are not absolute are taken from ``home``
    (default: the current folder). Raises ``InvalidSettings`` for an unknown type or key, a value
    that makes no sense, or a library that is not installed.
    """
    cls, settings = load(_INPUTS, "inputs", config)
    created: Input = cls(settings, device, home or Path())
    return created
