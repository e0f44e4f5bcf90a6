"""Eight or four bits by nncf, on OpenVINO's form of the model: full int8, or weights alone.

The only module that imports ``nncf``; it reports its use over the network unless told not to, and is told.
The result is an OpenVINO model (``.xml`` and ``.bin``), which only the backend ``openvino`` runs.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import yaml

from forwardpass.config import MODEL_FILE, BackendConfig, read_yaml
from forwardpass.optimize.recipe import Parent, write_model
from forwardpass.optimize.recipes.engines import lacks_operator
from forwardpass.optimize.recipes.graph import NEURAL, read_graph
from forwardpass.optimize.recipes.quantize import calibration_rows, no_rows, not_quantisable
from forwardpass.optimize.recipes.stage import Stage, StagedRecipe, missing, quietly

OPENVINO = BackendConfig("openvino")
ARTIFACT = "model.xml"
SMALLEST = 8_000_000  # bytes of artifact below which fewer bytes of weights help nobody


class FullInt8(StagedRecipe):
    """Weights and activations in int8, calibrated, with bias correction (``nncf.quantize``).

    ``smooth`` first moves outliers from activations into weights (Xiao et al. 2023, "SmoothQuant"): for
    networks of attention, where it saves one and spoils another.
    """

    stages = (Stage.QUANTISATION,)
    suffix = ".xml"
    backend = OPENVINO

    def __init__(self, smooth: bool = False) -> None:
        self.smooth = smooth
        self.name = "int8-nncf-smooth" if smooth else "int8-nncf"
        self.title = f"Static int8{', smoothed' if smooth else ''} (nncf, OpenVINO)"

    def unsuitable(self, parent: Parent) -> str:
        artifact = parent.files.artifact
        if reason := _not_compressible(artifact) or no_rows(parent):
            return reason
        return "it has no attention to smooth" if self.smooth and not _is_transformer(artifact) else ""

    def make(self, parent: Parent, folder: Path) -> None:
        artifact, rows = parent.files.artifact, list(calibration_rows(parent))
        with quietly():
            nncf = _nncf()
            alpha = 0.95 if self.smooth else -1.0  # the library's own share, and its word for none
            smoothing = nncf.AdvancedSmoothQuantParameters(matmul=alpha)
            model = nncf.quantize(
                _read(artifact),
                nncf.Dataset(rows),
                subset_size=len(rows),
                model_type=nncf.ModelType.TRANSFORMER if _is_transformer(artifact) else None,
                advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=smoothing),
            )
            _write(parent, folder, model)


class WeightsOnly(StagedRecipe):
    """Weights of matrix products and embeddings in fewer bits, computing as before: for memory."""

    stages = (Stage.QUANTISATION,)
    suffix = ".xml"
    backend = OPENVINO

    def __init__(self, bits: Literal[8, 4] = 8, smallest: int = SMALLEST) -> None:
        self.bits = bits
        self.smallest = smallest
        self.name = f"int{bits}-weights"
        self.title = f"Weights alone in int{bits} (nncf, OpenVINO)"

    def unsuitable(self, parent: Parent) -> str:
        artifact = parent.files.artifact
        if reason := _not_compressible(artifact):
            return reason
        if not read_graph(artifact).count("MatMul", "Gemm"):
            return "it has no matrix products"
        size = sum(file.stat().st_size for file in artifact.parent.glob(f"{artifact.name}*"))
        if size < self.smallest:
            return f"its weights are small ({size / 1e6:.1f} MB); this saves memory, not time"
        return ""

    def make(self, parent: Parent, folder: Path) -> None:
        with quietly():
            nncf = _nncf()
            mode = nncf.CompressWeightsMode
            model = nncf.compress_weights(
                _read(parent.files.artifact), mode=mode.INT8_ASYM if self.bits == 8 else mode.INT4_ASYM
            )
            _write(parent, folder, model)


def create_compressors() -> list[StagedRecipe]:
    return [FullInt8(), FullInt8(smooth=True), WeightsOnly(8), WeightsOnly(4)]


def _not_compressible(artifact: Path) -> str:
    return not_quantisable(artifact) or missing("openvino", "nncf") or lacks_operator(artifact)


def _is_transformer(artifact: Path) -> bool:
    graph = read_graph(artifact)
    return graph.count("Softmax", "Attention") > 0 and graph.count(*NEURAL) > 2 * graph.count("Conv")


def _nncf() -> Any:
    """The library, silent: it asks for this variable when it is imported, and logs to standard output."""
    os.environ["NNCF_CI"] = "1"
    _openvino()  # first, as nncf would import it with its own reports
    nncf = import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def _read(artifact: Path) -> Any:
    return _openvino().Core().read_model(artifact)


def _openvino() -> Any:
    """As its backend imports it, which is without its reports."""
    return import_module("forwardpass.backends.openvino").openvino


def _write(parent: Parent, folder: Path, model: Any) -> None:
    """The model as it is (half precision would be a second change), and a model.yaml that fits it."""
    _openvino().save_model(model, folder / ARTIFACT, compress_to_fp16=False)
    write_model(parent, folder, folder / ARTIFACT, OPENVINO)
    if parent.files.config.batching is None and _is_batched(parent.files.artifact):
        file = folder / MODEL_FILE
        lines = {**read_yaml(file), "batching": True}
        file.write_text(yaml.safe_dump(lines, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _is_batched(artifact: Path) -> bool:
    """Whether first axes are one and the same by name: OpenVINO's files keep no names of axes, so it is written."""
    graph = read_graph(artifact)
    rows = {axes[0] if axes else None for axes in (*graph.inputs.values(), *graph.outputs.values())}
    return len(rows) == 1 and isinstance(rows.pop(), str)
