"""Where an optimised version comes from: ``lineage.json`` in its folder.

The parent's digests, the recipe, the data's fingerprint, the measurements, the gate, on which machine with which
libraries it was measured, and with which it was made. Written once; nothing that serves the version reads it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from forwardpass.config import available_cores
from forwardpass.optimize.results import Entry, Figures

LINEAGE_FILE = "lineage.json"
_LIBRARIES = (
    "forwardpass", "numpy", "onnx", "onnxruntime", "onnxruntime-ep-openvino", "openvino", "nncf", "torch",
    "torch-pruning", "scikit-learn", "xgboost-cpu", "lightgbm", "ai-edge-litert",
)  # fmt: skip


def write_lineage(
    folder: Path,
    parent: Mapping[str, Any],
    search: Mapping[str, Any],
    before: Figures,
    won: Entry,
    measured_on: Mapping[str, Any],
) -> None:
    """``parent`` is its name, version and digests; ``search`` what the gate was and which data decided.

    ``measured_on`` is the ``target``, its ``machine`` and its ``libraries``.
    """
    lineage = {
        "parent": dict(parent),
        "recipe": {"name": won.name, "title": won.title},
        "gate": dict(search),
        "measurements": {"parent": asdict(before), "candidate": asdict(won)},
        **measured_on,
        "made_with": libraries(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    (folder / LINEAGE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(lineage)) + b"\n")


def machine() -> dict[str, Any]:
    """The processor's model and how many of its cores this process may use."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def libraries() -> dict[str, str]:
    """Versions of those that are installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
