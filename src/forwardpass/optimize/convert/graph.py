"""Changes to a converted ONNX graph: outputs get their standard names and honest shapes.

The converters call outputs as they like, declare a first axis of 1 and give a prediction a second axis of 1. Knows
protobuf messages of ``onnx`` and no library that trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROWS = "rows"  # the name of the first axis


def finish(model: Any, input: str, outputs: Sequence[str], flatten: bool, path: Path) -> None:
    """Name the single input and the outputs in order, drop further outputs, and write the model.

    ``flatten`` makes each output one number per row.
    """
    import onnx

    graph = model.graph
    _rename(graph, graph.input[0].name, input)
    del graph.output[len(outputs) :]
    for value, name in zip(graph.output, outputs, strict=True):
        raw = f"{name}_raw"
        _rename(graph, value.name, raw)
        kind, inputs = ("Reshape", [raw, "one_per_row"]) if flatten else ("Identity", [raw])
        graph.node.append(onnx.helper.make_node(kind, inputs, [name]))
        value.name = name
        _free_rows(value, flatten)
    if flatten:
        shape = onnx.helper.make_tensor("one_per_row", onnx.TensorProto.INT64, [1], [-1])
        graph.initializer.append(shape)
    _free_rows(graph.input[0], False)
    onnx.save(model, str(path))


def _free_rows(value: Any, flat: bool) -> None:
    dims = value.type.tensor_type.shape.dim
    if flat:
        del dims[:]
    if not dims:
        dims.add()
    dims[0].ClearField("dim_value")
    dims[0].dim_param = _ROWS


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new
