"""Trees in their library's own format, as ONNX: which of the two is faster depends on the model and on the batch.

The candidate takes and answers the parent's types: where the library computes in float64, its rows are rounded on the
way in. That may send one right at a threshold the other way, which the gate sees. The way back is not tried: no
library reads trees from ONNX.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forwardpass.artifacts import artifact_suffix
from forwardpass.backends import create_backend
from forwardpass.config import BackendConfig
from forwardpass.optimize.recipe import Parent, Recipe, write_model
from forwardpass.optimize.recipes.stage import missing, quietly
from forwardpass.types import TensorSpec

# The libraries that each format needs: the one that trained the model, and its converter.
_LIBRARIES = {
    ".skops": ("onnx", "onnxruntime", "sklearn", "skops", "skl2onnx"),
    ".xgboost.json": ("onnx", "onnxruntime", "xgboost", "onnxmltools"),
    ".ubj": ("onnx", "onnxruntime", "xgboost", "onnxmltools"),
    ".lightgbm.txt": ("onnx", "onnxruntime", "lightgbm", "onnxmltools"),
}


class ToOnnx(Recipe):
    """A scikit-learn, XGBoost or LightGBM model on ONNX Runtime."""

    name = "onnx"
    title = "converted to ONNX"

    def unsuitable(self, parent: Parent) -> str:
        suffix = artifact_suffix(parent.files.artifact) or parent.files.artifact.suffix
        if suffix not in _LIBRARIES:
            return f"{suffix} files are not converted"
        return missing(*_LIBRARIES[suffix])

    def make(self, parent: Parent, folder: Path) -> None:
        """Raises ``InvalidModel`` where a part of the model has no converter."""
        from forwardpass.optimize.convert.sources import load_trained

        artifact = folder / "model.onnx"
        with quietly():
            load_trained(str(parent.files.artifact)).write_onnx(artifact)
        inputs, outputs = _specs(parent.files.artifact, parent.files.config.backend)
        _keep_types(artifact, inputs, outputs)
        write_model(parent, folder, artifact, BackendConfig("onnxruntime"))


def _specs(artifact: Path, backend: BackendConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    loaded = create_backend(artifact, 1, backend)
    try:
        return loaded.inputs, loaded.outputs
    finally:
        loaded.close()


def _keep_types(artifact: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Rewrite an ONNX file so that its tensors have the types of those of the same name."""
    import onnx

    model = onnx.load(artifact)
    wanted = {spec.name: onnx.helper.np_dtype_to_tensor_dtype(spec.dtype.numpy) for spec in (*inputs, *outputs)}
    for values, before in ((model.graph.input, True), (model.graph.output, False)):
        for value in values:
            kind, own = value.type.tensor_type, wanted[value.name]
            if kind.elem_type != own:
                _cast(model.graph, value.name, kind.elem_type if before else own, before)
                kind.elem_type = own
    onnx.save(model, artifact)


def _cast(graph: Any, name: str, to: int, before: bool) -> None:
    """Put a cast between a tensor of this name and the nodes that take it, or the one that gives it."""
    import onnx

    inner = f"{name}_cast"
    for node in graph.node:
        names = node.input if before else node.output
        for index, found in enumerate(names):
            if found == name:
                names[index] = inner
    ends = ([name], [inner]) if before else ([inner], [name])
    graph.node.insert(0 if before else len(graph.node), onnx.helper.make_node("Cast", *ends, to=to))
