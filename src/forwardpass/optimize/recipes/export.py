"""A PyTorch model as ONNX with the parent's tensors: the same names, the same free axes, checked row by row.

Knows no training. Loads ``torch`` inside the functions.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.backends import create_backend
from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidModel
from forwardpass.optimize.recipes.graph import Graph
from forwardpass.optimize.recipes.stage import quietly

OPSET = 20
TOLERANCE = 1e-3  # between PyTorch and the exported graph, in FP32


def export(model: Any, example: dict[str, Any], graph: Graph, target: Path) -> None:
    """Write ``target``. ``example`` are tensors in the order of forward's arguments, ``graph`` the parent's.

    Raises ``InvalidModel`` where the result would not answer as the model does, under the parent's names.
    """
    torch: Any = import_module("torch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision in every model
    with quietly(), torch.no_grad():
        torch.onnx.export(
            model.eval(),
            tuple(example.values()),
            str(target),
            dynamo=True,
            verbose=False,
            external_data=False,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple(_free(graph.inputs[name]) for name in example),
        )
    _check(model, example, graph, target)


def _free(axes: tuple[int | str | None, ...]) -> dict[int, str]:
    """Free axes by place; those that share a name stay one."""
    return {place: _identifier(axis) for place, axis in enumerate(axes) if isinstance(axis, str)}


def _identifier(axis: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in axis)


def _check(model: Any, example: dict[str, Any], graph: Graph, target: Path) -> None:
    torch: Any = import_module("torch")
    backend = create_backend(target, 1, BackendConfig("onnxruntime"))
    try:
        found = ([spec.name for spec in backend.inputs], [spec.name for spec in backend.outputs])
        if sorted(found[0]) != sorted(graph.inputs) or found[1] != list(graph.outputs):
            raise InvalidModel(f"the exported model has tensors {found}, the parent {[*graph.inputs, *graph.outputs]}")
        for rows in (3, 1):
            given = {name: tensor[:rows] for name, tensor in example.items()}
            with torch.no_grad():
                expected = _listed(model(*given.values()))
            answer = backend.run({name: tensor.numpy() for name, tensor in given.items()})
            for name, tensor in zip(graph.outputs, expected, strict=True):
                if not np.allclose(answer[name], tensor.numpy(), TOLERANCE, TOLERANCE):
                    raise InvalidModel(f"the exported model's {name!r} is not what PyTorch gives")
    finally:
        backend.close()


def _listed(outputs: Any) -> list[Any]:
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]
