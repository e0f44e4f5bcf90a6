"""An entry of ``inputs:`` in ``agent.yaml`` to the input it names, its library loaded only then.

- {type: mqtt, topics: [motors/+], url: mqtt://broker:1883}
- {type: folder, path: /var/spool/pictures}
- {type: stdin}
- {type: video, url: rtsp://camera/stream, fps: 2}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forwardpass.edge.inputs.base import Input
from forwardpass.edge.kinds import load

_INPUTS = {
    "mqtt": ("forwardpass.edge.inputs.mqtt", "MqttInput", "mqtt"),
    "folder": ("forwardpass.edge.inputs.folder", "FolderInput", ""),
    "stdin": ("forwardpass.edge.inputs.stdin", "StdinInput", ""),
    "video": ("forwardpass.edge.inputs.video", "VideoInput", "video"),
}


def create_input(config: Mapping[str, Any], device: str = "", home: Path | None = None) -> Input:
    """The input that one entry describes, not yet running.

    ``device`` names this device to a broker, paths that are not absolute are taken from ``home``
    (default: the current folder). Raises ``InvalidSettings`` for an unknown type or key, a value
    that makes no sense, or a library that is not installed.
    """
    cls, settings = load(_INPUTS, "inputs", config)
    created: Input = cls(settings, device, home or Path())
    return created
