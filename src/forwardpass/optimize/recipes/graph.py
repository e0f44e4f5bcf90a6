"""What a recipe asks of an ONNX graph before it tries anything: its operators, its tensors' axes.

Reads the graph alone, not weights that lie in other files. Loads ``onnx`` inside the function, so that
engines can be compared where it is not installed. Knows no recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Axis = int | str | None
NEURAL = ("Conv", "ConvTranspose", "MatMul", "Gemm")  # where a network spends its time
_QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "MatMulNBits")
_STRING = 8  # onnx.TensorProto.STRING


@dataclass(frozen=True)
class Graph:
    """An ONNX graph in short.

    ``operators`` counts them by name, those of other domains as ``domain:name``. ``inputs`` and
    ``outputs`` map a tensor's name to its axes: a size, the name of a free axis, or None.
    """

    operators: Counter[str] = field(default_factory=Counter)
    inputs: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    takes_text: bool = False

    @property
    def classic(self) -> str:
        """An operator of classic machine learning (trees, scalers, linear models), or ""."""
        found = (name for name in self.operators if name.startswith("ai.onnx.ml:"))
        return min(found, default="").removeprefix("ai.onnx.ml:")

    @property
    def quantised(self) -> bool:
        return any(name in self.operators for name in _QUANTISED)

    @property
    def free_rows(self) -> bool:
        """Whether the first axis of every input may have any size."""
        return all(axes and not isinstance(axes[0], int) for axes in self.inputs.values())

    def count(self, *names: str) -> int:
        return sum(self.operators[name] for name in names)


def read_graph(artifact: Path) -> Graph:
    """The graph of an ``.onnx`` file; an empty one for other files, and where ``onnx`` is not installed.

    Raises whatever ``onnx`` raises for a file that is none.
    """
    if artifact.suffix != ".onnx" or find_spec("onnx") is None:
        return Graph()
    state = artifact.stat()
    return _read(artifact, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=4)
def _read(artifact: Path, _state: tuple[int, int]) -> Graph:  # the state keys the cache
    import onnx

    graph = onnx.load(artifact, load_external_data=False).graph
    weights = {item.name for item in graph.initializer}  # old files list them as inputs too
    inputs = [item for item in graph.input if item.name not in weights]
    return Graph(
        Counter(f"{node.domain}:{node.op_type}" if node.domain else node.op_type for node in _nodes(graph)),
        {item.name: _axes(item) for item in inputs},
        {item.name: _axes(item) for item in graph.output},
        any(item.type.tensor_type.elem_type == _STRING for item in inputs),
    )


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, also those inside loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _axes(item: Any) -> tuple[Axis, ...]:
    axes = item.type.tensor_type.shape.dim
    return tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None for axis in axes)
