"""Eight bits instead of thirty-two, after training: weights, or weights and what flows between them.

Dynamic: activations are quantised as they come; for networks of matrix products. Static: by ranges seen on
the calibration rows; for convolutions too. Weights are always quantised per channel: one scale for a whole
matrix ruins text encoders, and dynamic int8 makes convolutions several times slower, so neither is offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from forwardpass.config import BackendConfig
from forwardpass.optimize.processor import cpu_flags
from forwardpass.optimize.recipe import Parent, write_model
from forwardpass.optimize.recipes.graph import NEURAL, read_graph
from forwardpass.optimize.recipes.stage import Stage, StagedRecipe, missing, quietly
from forwardpass.types import Columns

ONNX_RUNTIME = BackendConfig("onnxruntime")
ARTIFACT = "model.onnx"
MOST_ROWS = 256  # of calibration; ranges hardly move after some hundred
_DYNAMIC = ("MatMul", "Gemm", "Attention")
_STATIC = ("Conv", "MatMul", "Gemm")
_BETWEEN = ("Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")  # of convolutions, so that all stays int8
_VNNI = ("avx512_vnni", "avx_vnni", "asimddp")  # int8 products summed in 32 bits, on x86 and Arm
Calibration = Literal["minmax", "entropy", "percentile"]


class DynamicInt8(StagedRecipe):
    """ONNX Runtime's dynamic quantisation of matrix products, weights signed and per channel."""

    name = "int8-dynamic"
    title = "Dynamic int8 (ONNX Runtime)"
    stages = (Stage.QUANTISATION,)
    backend = ONNX_RUNTIME

    def unsuitable(self, parent: Parent) -> str:
        if reason := not_quantisable(parent.files.artifact):
            return reason
        graph = read_graph(parent.files.artifact)
        if graph.count("Conv", "ConvTranspose") >= max(1, graph.count("MatMul", "Gemm")):
            return "most of its work is convolutions, which dynamic int8 makes slower"
        return ""

    def make(self, parent: Parent, folder: Path) -> None:
        with quietly(), TemporaryDirectory(dir=folder) as work:
            quantization = import_module("onnxruntime.quantization")
            quantization.quantize_dynamic(
                _prepared(parent.files.artifact, Path(work)),
                folder / ARTIFACT,
                op_types_to_quantize=list(_DYNAMIC),
                per_channel=True,
                reduce_range=_narrow(parent),
                weight_type=quantization.QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        write_model(parent, folder, folder / ARTIFACT, ONNX_RUNTIME)


class StaticInt8(StagedRecipe):
    """ONNX Runtime's static quantisation (QDQ), activations U8 by ranges seen, weights S8 per channel.

    ``calibration`` says how a range is chosen: all that was seen, what loses least information
    (Kullback-Leibler), or all but the outermost values.
    """

    stages = (Stage.QUANTISATION,)
    backend = ONNX_RUNTIME

    def __init__(self, calibration: Calibration = "minmax") -> None:
        self.calibration = calibration
        self.name = f"int8-static-{calibration}"
        self.title = f"Static int8, ranges by {calibration} (ONNX Runtime)"

    def unsuitable(self, parent: Parent) -> str:
        return not_quantisable(parent.files.artifact) or no_rows(parent)

    def make(self, parent: Parent, folder: Path) -> None:
        with quietly(), TemporaryDirectory(dir=folder) as work:
            quantization = import_module("onnxruntime.quantization")
            method = quantization.CalibrationMethod
            quantization.quantize_static(
                _prepared(parent.files.artifact, Path(work)),
                folder / ARTIFACT,
                _Reader(calibration_rows(parent)),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_static_operators(parent.files.artifact),
                per_channel=True,
                reduce_range=_narrow(parent),
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method={
                    "minmax": method.MinMax,
                    "entropy": method.Entropy,
                    "percentile": method.Percentile,
                }[self.calibration],
                extra_options={"MatMulConstBOnly": True},
            )
        write_model(parent, folder, folder / ARTIFACT, ONNX_RUNTIME)


class _Reader:
    """Calibration rows as ONNX Runtime asks for them: one batch a call, then None."""

    def __init__(self, batches: Iterator[Columns]) -> None:
        self._batches = batches

    def get_next(self) -> Columns | None:
        return next(self._batches, None)


def create_quantisers() -> list[StagedRecipe]:
    return [DynamicInt8(), StaticInt8("minmax"), StaticInt8("entropy"), StaticInt8("percentile")]


def not_quantisable(artifact: Path) -> str:
    """Why there is nothing to quantise, or ""."""
    if artifact.suffix != ".onnx":
        return f"only .onnx files are quantised, not {artifact.suffix}"
    if lacking := missing("onnx"):
        return lacking
    graph = read_graph(artifact)
    if graph.quantised:
        return "it is quantised already"
    return "" if graph.count(*NEURAL) else "it has no matrix products or convolutions with weights"


def calibration_rows(parent: Parent, most: int = MOST_ROWS) -> Iterator[Columns]:
    """Calibration in single rows, which every method takes; whole batches where rows cannot be told apart."""
    single = read_graph(parent.files.artifact).free_rows
    count = 0
    for batch in parent.calibration:
        rows = min(len(array) for array in batch.values()) if single else 1
        for row in range(rows):
            if count == most:
                return
            count += 1
            yield {name: array[row : row + 1] for name, array in batch.items()} if single else batch


def no_rows(parent: Parent) -> str:
    """Why nothing can be calibrated, or ""."""
    return "" if any(len(next(iter(batch.values()))) for batch in parent.calibration) else "no rows to calibrate with"


def _prepared(artifact: Path, work: Path) -> Path:
    """The graph simplified and its shapes inferred, as quantisation wants it; keeps names and free axes."""
    target = work / "prepared.onnx"
    shape_inference = import_module("onnxruntime.quantization.shape_inference")
    shape_inference.quant_pre_process(artifact, target, skip_symbolic_shape=True)  # symbolic would need sympy
    onnx = import_module("onnx")
    model = onnx.load(target)
    # Shapes of weights stay behind where Gemm becomes MatMul and they are turned around; they are inferred again.
    del model.graph.value_info[:]
    onnx.save(model, target)
    return target


def _static_operators(artifact: Path) -> list[str]:
    """Not additions in a network of attention: their masks are infinite, which no range holds."""
    graph = read_graph(artifact)
    return [*_STATIC, *(() if graph.count("Softmax", "Attention") else _BETWEEN)]


def _narrow(parent: Parent) -> bool:
    """Seven bits, where the CPU sums products of eight in sixteen bits, which overflow."""
    return not (cpu_flags() if parent.flags is None else parent.flags).intersection(_VNNI)
