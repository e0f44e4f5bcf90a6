"""The same artifact on another engine, in another precision, with other threads. No data is needed.

Which engine is fastest depends on the model and on the CPU, so all that can run it are tried. A
precision is tried only where the CPU computes in it: elsewhere it is emulated, and slower than FP32.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from forwardpass.artifacts import ARTIFACTS
from forwardpass.config import BackendConfig, available_cores
from forwardpass.optimize.processor import cpu_flags
from forwardpass.optimize.recipe import Parent, write_model
from forwardpass.optimize.recipes.graph import read_graph
from forwardpass.optimize.recipes.stage import Stage, StagedRecipe, missing

# Linux's names for the instructions, of x86 and of Arm.
_INSTRUCTIONS = {
    "fp32": (),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
}
_INTEL = ("GenuineIntel",)
_LIBRARIES = {
    "onnxruntime": ("onnxruntime",),
    "onnxruntime-openvino": ("onnxruntime_ep_openvino",),
    "openvino": ("openvino",),
}
_SUFFIXES = {
    "onnxruntime": (".onnx",),
    "onnxruntime-openvino": (".onnx",),
    "openvino": (".onnx", ".xml"),
}
_TITLES = {
    "onnxruntime": "ONNX Runtime",
    "onnxruntime-openvino": "ONNX Runtime with OpenVINO",
    "openvino": "OpenVINO",
}


class EngineRecipe(StagedRecipe):
    """An engine, a precision and, where ``threads`` is given, that many threads."""

    stages = (Stage.ENGINE,)

    def __init__(self, backend: BackendConfig, threads: int | None = None) -> None:
        library = backend.name or ""
        self.library = library
        self.backend: BackendConfig = backend
        self.threads = threads
        self.name = f"{library}-{backend.precision}" + (f"-{threads}-threads" if threads else "")
        many = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
        self.title = f"{_TITLES[library]}, {backend.precision.upper()}{many}"

    def unsuitable(self, parent: Parent) -> str:
        library, precision = self.library, self.backend.precision
        artifact, own = parent.files.artifact, parent.files.config
        if not self.runs(artifact.suffix):
            return f"{_TITLES[library]} does not run {artifact.suffix} files"
        lacking = missing(*_LIBRARIES[library])
        if lacking and parent.flags is None:  # elsewhere it need not be here: nothing is run to make this
            return lacking
        flags = cpu_flags() if parent.flags is None else parent.flags
        if library == "onnxruntime-openvino" and not flags.intersection(_INTEL):
            return "ONNX Runtime's OpenVINO runs on Intel's CPUs alone"
        needed = _INSTRUCTIONS[precision]
        if needed and not flags.intersection(needed):
            return f"{'this' if parent.flags is None else 'its'} CPU does not compute in {precision.upper()}"
        engine = replace(own.backend, name=own.backend.name or ARTIFACTS[artifact.suffix])
        if (engine, own.threads) == (self.backend, self.threads):
            return "the model runs so already"
        return lacks_operator(artifact) if "openvino" in library else ""

    def make(self, parent: Parent, folder: Path) -> None:
        write_model(parent, folder, parent.files.artifact, self.backend, self.threads)

    def runs(self, suffix: str) -> bool:
        return suffix in _SUFFIXES[self.library]


def lacks_operator(artifact: Path) -> str:
    """What OpenVINO cannot run of an ``.onnx`` file, as far as is known without loading it, or ""."""
    graph = read_graph(artifact)
    if graph.classic:
        return f"OpenVINO lacks the operator {graph.classic}"
    return "OpenVINO takes no text" if graph.takes_text else ""


def create_engines(cores: int | None = None) -> list[EngineRecipe]:
    """All of them: ONNX Runtime with 1, 2, 4 … and all cores; OpenVINO, alone and inside it, in each precision."""
    cores = cores or available_cores()
    threads = sorted({2**power for power in range(cores.bit_length()) if 2**power <= cores} | {cores})
    plain = [EngineRecipe(BackendConfig("onnxruntime"), count) for count in threads]
    others = [
        EngineRecipe(BackendConfig(name, precision))  # type: ignore[arg-type]
        for name in ("onnxruntime-openvino", "openvino")
        for precision in _INSTRUCTIONS
    ]
    return plain + others
