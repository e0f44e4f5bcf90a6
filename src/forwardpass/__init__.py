"""Forwardpass runs trained models on new data: live, in bulk, and on devices."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# ONNX Runtime sends telemetry from version 1.29 on unless this stands before its import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# OpenVINO and NNCF report what is done with them where they can import this.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from forwardpass.engine.engine import Engine, load
    from forwardpass.pipeline import step

__version__ = "0.1.0"
__all__ = ["Engine", "__version__", "load", "step"]

_LAZY = {
    "Engine": "forwardpass.engine.engine",
    "import_model": "forwardpass.optimize.convert",  # not named above: what stands here, every floor knows
    "load": "forwardpass.engine.engine",
    "step": "forwardpass.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import the public names when first used, so that the command line starts quickly."""
    if name not in _LAZY:
        raise AttributeError(f"module 'forwardpass' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
