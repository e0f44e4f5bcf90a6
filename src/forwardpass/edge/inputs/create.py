"""An entry of ``inputs:`` in ``agent.yaml`` to the input it names, its library loaded only then.

    - {type: mqtt, topics: [motors/+], url: mqtt://broker:1883}
    - {type: folder, path: /var/spool/pictures}
    - {type: stdin}
    - {type: video, url: rtsp://camera/stream, fps: 2}

Each kind is a class in a module of its own, with the dataclass ``Config`` that says what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from forwardpass.config import decode, decode_mapping
from forwardpass.edge.inputs.base import Input
from forwardpass.errors import InvalidSettings, nearest

# type -> (module, class, the extra that brings its library)
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
    kind = decode_mapping(config, "inputs", InvalidSettings).get("type")
    if kind not in _INPUTS:
        raise InvalidSettings(f"inputs: there is no type {kind!r}.{nearest(str(kind), _INPUTS)}")
    module, name, extra = _INPUTS[kind]
    cls = _load(module, name, extra, kind)
    rest = {key: value for key, value in config.items() if key != "type"}
    created: Input = cls(decode(cls.Config, rest, f"inputs: {kind}", InvalidSettings), device, home or Path())
    return created


def _load(module: str, name: str, extra: str, kind: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        if not extra:
            raise
        raise InvalidSettings(
            f"inputs: {kind} needs {error.name!r}, which is not installed: pip install 'forwardpass[{extra}]'"
        ) from None
