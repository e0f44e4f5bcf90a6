"""Builders of tiny ONNX artifacts for everybody's tests.

Each takes the path to write to and returns it. A shape is a list of whole numbers, names (one
name, one axis) and ``None`` (free and unnamed). Values are chosen so that a test can tell what
the right answer is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Axis = int | str | None
Shape = Sequence[Axis]

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def tensor(name: str, shape: Shape | None, dtype: str = "FP32") -> Any:
    return helper.make_tensor_value_info(name, ONNX_TYPES[dtype], shape)


def constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def save(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Sequence[Any] = ()
) -> Path:
    """Write a model of these nodes; makes the folder."""
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def identity(path: Path, dtype: str = "FP32", shape: Shape = ("N", 2), out: Shape | None = None) -> Path:
    """``y = x``, of any type and shape; ``out`` declares another shape for ``y``."""
    outputs = [tensor("y", shape if out is None else out, dtype)]
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], [tensor("x", shape, dtype)], outputs)


def weights(inputs: int = 64, outputs: int = 10) -> NDArray[np.float32]:
    """The matrix of ``affine``."""
    return np.random.default_rng(0).standard_normal((inputs, outputs)).astype(np.float32)


def affine(path: Path, rows: Axis = "N", inputs: int = 64, outputs: int = 10) -> Path:
    """``y = x @ weights() + 1``; ``rows`` a number fixes the first axis."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    constants = [constant("w", weights(inputs, outputs)), constant("b", np.ones(outputs, np.float32))]
    return save(path, nodes, [tensor("x", [rows, inputs])], [tensor("y", [rows, outputs])], constants)


def two_inputs(path: Path, first: Axis = "N", second: Axis = "N") -> Path:
    """``total = a + b`` of rows of 3, by the names (or numbers) of both first axes."""
    node = helper.make_node("Add", ["a", "b"], ["total"])
    return save(path, [node], [tensor("a", [first, 3]), tensor("b", [second, 3])], [tensor("total", [first, 3])])


def scalar_output(path: Path) -> Path:
    """``y = sum(x)``, a number without axes: not batched."""
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    return save(path, [node], [tensor("x", ["N", 2])], [tensor("y", [])])


def no_batch_axis(path: Path) -> Path:
    """``y = 2 x`` of one vector of 4: no axis is free."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return save(path, [node], [tensor("x", [4])], [tensor("y", [4])])


def ragged(path: Path) -> Path:
    """``y = sum of each row`` where both axes of ``x`` are free and unnamed."""
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    return save(path, [node], [tensor("x", [None, None])], [tensor("y", [None])], [constant("axes", np.array([1]))])


def row_mixing(path: Path) -> Path:
    """``y = x - mean over the rows``: a row's answer depends on its neighbours."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    return save(path, nodes, [tensor("x", ["N", 2])], [tensor("y", ["N", 2])], [constant("axes", np.array([0]))])


def lookup(path: Path, size: int = 8) -> Path:
    """``y = 10 * id``; an id that is not below ``size`` fails inside the artifact."""
    table = constant("table", np.arange(size, dtype=np.float32) * 10)
    node = helper.make_node("Gather", ["table", "id"], ["y"])
    return save(path, [node], [tensor("id", ["N"], "INT64")], [tensor("y", ["N"])], [table])


def slow(path: Path, loops: int = 20) -> Path:
    """``y = x``, after ``loops`` products of 256 x 256 matrices (about a millisecond each on one core)."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "square"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "body",
        [tensor("i", [], "INT64"), tensor("go_on", [], "BOOL"), tensor("state", [256, 256])],
        [tensor("still", [], "BOOL"), tensor("next", [256, 256])],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Add", ["square", "top"], ["start"]),
        helper.make_node("Loop", ["loops", "true", "start"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = [
        constant("square", np.full((256, 256), 0.01, np.float32)),
        constant("loops", np.array(loops)),
        constant("true", np.array(True)),
        constant("zero", np.float32(0)),
    ]
    return save(path, nodes, [tensor("x", ["N", 1])], [tensor("y", ["N", 1])], constants)


def sequence_output(path: Path) -> Path:
    """Gives a sequence of tensors, which cannot be served."""
    output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["N"])
    return save(path, [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])], [tensor("x", ["N"])], [output])


def sequence_input(path: Path) -> Path:
    """Takes a sequence of tensors, which cannot be served."""
    given = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["N"])
    node = helper.make_node("SequenceAt", ["x", "at"], ["y"])
    return save(path, [node], [given], [tensor("y", ["N"])], [constant("at", np.array(0))])
