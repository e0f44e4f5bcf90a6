"""The kinds of device that bundles are made for: which backends run there, and what must be importable.

A device has ONNX Runtime and nothing that trains or serves many; a model that needs another library is refused
here, with what to do instead, rather than on the device. Opens no artifact.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from forwardpass.config import BackendConfig
from forwardpass.edge.distribution import HERE
from forwardpass.errors import InvalidModel, InvalidSettings, nearest

_CPU = {"onnxruntime": ("fp32",)}
_CUDA = {"onnxruntime-cuda": ("fp32",), "onnxruntime-tensorrt": ("fp32", "bf16", "fp16")}


@dataclass(frozen=True)
class Target:
    """``machine`` as ``uname -m`` says it; ``backends`` maps each that runs there to its precisions."""

    name: str
    machine: str
    backends: Mapping[str, tuple[str, ...]]


TARGETS = {
    target.name: target
    for target in (
        Target("linux-x86_64", "x86_64", _CPU),
        Target("linux-aarch64", "aarch64", _CPU),
        Target("jetson", "aarch64", {**_CPU, **_CUDA}),
    )
}
DEFAULT = "linux-x86_64"

# The least version of what every bundle needs, and of what some steps need; "" is any.
RUNTIME = {"numpy": "2.4", "onnxruntime": "1.31"}
STEP_RUNTIME = {"PIL": "13", "tokenizers": "0.23"}
_EXTRAS = {"PIL": "images", "tokenizers": "text"}
_DISTRIBUTIONS = {"PIL": ("pillow",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "cv2": ("opencv-python",)}

_IMPORT = "convert it to ONNX with `forwardpass import`, and bundle that"
_ADVICE = {
    "sklearn": _IMPORT,
    "xgboost": _IMPORT,
    "lightgbm": _IMPORT,
    "torch": _IMPORT,
    "openvino": "bundle the ONNX model that it was made from; `forwardpass optimize` makes that one faster",
    "litert": "convert it to ONNX (python -m tf2onnx.convert --tflite model.tflite), and bundle that",
    "onnxruntime-openvino": "take `backend` out of model.yaml; `forwardpass optimize` makes the ONNX model faster",
    "onnxruntime-cuda": "take `backend` out of model.yaml, or bundle it with --target jetson",
    "onnxruntime-tensorrt": "take `backend` out of model.yaml, or bundle it with --target jetson",
}


def find_target(name: str) -> Target:
    """Raises ``InvalidSettings`` where there is none of this name."""
    if name not in TARGETS:
        raise InvalidSettings(f"there is no target {name!r}.{nearest(name, TARGETS)}")
    return TARGETS[name]


def require_runnable(model: str, backend: BackendConfig, target: Target) -> None:
    """Raises ``InvalidModel`` where the target has no such backend, or cannot compute as ``model.yaml`` asks."""
    name = backend.name or "onnxruntime"
    if name not in target.backends:
        advice = _ADVICE.get(name, f"known there are {', '.join(target.backends)}")
        raise InvalidModel(f"{model}: the target {target.name} has no backend {name!r}: {advice}")
    able = target.backends[name]
    if backend.precision not in able:
        others = [other for other, precisions in target.backends.items() if backend.precision in precisions]
        instead = f"with `backend: {{name: {others[0]}}}`, or " if others else ""
        raise InvalidModel(
            f"{model}: `backend: {{precision: {backend.precision}}}` does not fit the target {target.name}: "
            f"{name} computes there in {' or '.join(able)}; bundle it {instead}with an artifact converted to it "
            "(`forwardpass optimize`) and `precision` taken out"
        )
    if (backend.device == "cuda") and name not in _CUDA:
        where = "name `onnxruntime-cuda` as its backend" if "onnxruntime-cuda" in target.backends else "take it out"
        raise InvalidModel(
            f"{model}: `backend: {{device: cuda}}` does not fit the target {target.name}, where {name} runs on the "
            f"CPU: {where} in model.yaml"
        )


def fits_here(target: str) -> bool:
    """Whether this machine is of that kind, as far as its processor says."""
    return target in TARGETS and TARGETS[target].machine == platform.machine()


def missing_runtime(runtime: Mapping[str, str]) -> list[str]:
    """What of a manifest's runtime this machine lacks, in words; imports nothing."""
    return [text for module, least in sorted(runtime.items()) if (text := _missing(module, least))]


def _missing(module: str, least: str) -> str:
    how = f": {HERE.how_to_get(_EXTRAS[module])}" if module in _EXTRAS else ""
    if find_spec(module) is None:
        return f"{module}{f' {least} or later' if least else ''} is not installed{how}"
    there = _version(module)
    if least and there and _numbers(there) < _numbers(least):
        return f"{module} is {there}, and must be {least} or later{how}"
    return ""


def _version(module: str) -> str:
    """The installed version; "" where nobody says, as for modules that were put there by hand."""
    for name in _DISTRIBUTIONS.get(module, (module,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
