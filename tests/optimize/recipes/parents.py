"""Parents for the tests of recipes: real models with the rows that their artifacts take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper
from tests import artifacts

from forwardpass.backends import create_backend
from forwardpass.engine.engine import load
from forwardpass.optimize.recipe import Parent
from forwardpass.registry import find_model
from forwardpass.types import Array, Columns

MODELS = Path(__file__).parents[3] / "examples" / "models"
BATCH = 32


def digits(source: Path | None = None) -> tuple[Parent, Columns]:
    """The digits example: a parent with calibration rows, and other rows; each is what the artifact takes."""
    images = _handwritten(256)
    return parent(MODELS / "digits", {"ink": images[:128]}, source), {"ink": images[128:]}


def parent(path: Path, calibration: Columns, source: Path | None = None) -> Parent:
    rows = len(next(iter(calibration.values())))
    batches = [
        {name: array[start : start + BATCH] for name, array in calibration.items()} for start in range(0, rows, BATCH)
    ]
    return Parent(find_model(path), batches, source)


def answer(folder: Path, columns: Columns) -> Columns:
    """What a candidate's artifact gives, through its own backend."""
    files = find_model(folder)
    backend = create_backend(files.artifact, 1, files.config.backend)
    try:
        return backend.run(columns)
    finally:
        backend.close()


def agreement(folder: Path, other: Path, columns: Columns) -> float:
    """The share of rows for which the first output's largest entry is the same."""
    one, two = (next(iter(answer(path, columns).values())).argmax(1) for path in (folder, other))
    return float((one == two).mean())


def assert_whole(folder: Path, of: Parent) -> None:
    """A candidate is a model like its parent: the same inputs, outputs, batching, and files beside."""
    own, candidate = load(of.files.artifact, 1), load(folder, 1)
    try:
        assert [spec.tensor for spec in candidate.signature.inputs] == [spec.tensor for spec in own.signature.inputs]
        assert candidate.signature.outputs == own.signature.outputs
        assert candidate.signature.batched == own.signature.batched
        assert candidate.info.preprocess == own.info.preprocess
    finally:
        own.close()
        candidate.close()


def _handwritten(count: int) -> Array:
    """Digits of scikit-learn's table as the network takes them: ink [rows, 16, 16] from 0 to 1."""
    from sklearn.datasets import load_digits

    small = load_digits().images[:count].astype(np.float32) / 16
    return np.asarray(small.repeat(2, axis=1).repeat(2, axis=2))


def attention(path: Path) -> Path:
    """A small text encoder with one layer of attention, whose mask is infinite as exporters write it."""
    draw = np.random.default_rng(0)
    width, words = 32, 100

    def weight(name: str, *shape: int) -> object:
        return artifacts.constant(name, draw.normal(0, shape[0] ** -0.5, shape).astype(np.float32))

    make = helper.make_node
    nodes = [
        make("Gather", ["embedding", "ids"], ["e"]),
        *(make("MatMul", ["e", name], [name + "_e"]) for name in ("query", "key", "value")),
        make("Transpose", ["key_e"], ["turned"], perm=[0, 2, 1]),
        make("MatMul", ["query_e", "turned"], ["pairs"]),
        make("Unsqueeze", ["mask", "one"], ["wide"]),
        make("Equal", ["wide", "zero"], ["hidden"]),
        make("Where", ["hidden", "minus", "nothing"], ["added"]),
        make("Add", ["pairs", "added"], ["scores"]),
        make("Softmax", ["scores"], ["shares"], axis=-1),
        make("MatMul", ["shares", "value_e"], ["mixed"]),
        make("Add", ["mixed", "e"], ["sum"]),
        make("ReduceMean", ["sum", "one"], ["pooled"], keepdims=0),
        make("Gemm", ["pooled", "head", "bias"], ["logits"], transB=1),
    ]
    constants = [
        weight("embedding", words, width),
        *(weight(name, width, width) for name in ("query", "key", "value")),
        artifacts.constant("head", draw.normal(size=(4, width)).astype(np.float32)),
        artifacts.constant("bias", np.zeros(4, np.float32)),
        artifacts.constant("one", np.array([1])),
        artifacts.constant("zero", np.array(0)),
        artifacts.constant("minus", np.array(-np.inf, np.float32)),
        artifacts.constant("nothing", np.array(0, np.float32)),
    ]
    inputs = [artifacts.tensor("ids", ["N", "L"], "INT64"), artifacts.tensor("mask", ["N", "L"], "INT64")]
    return artifacts.save(path, nodes, inputs, [artifacts.tensor("logits", ["N", 4])], constants)


def texts(rows: int, seed: int = 0) -> Columns:
    """Rows for ``attention``: word numbers, and a mask over those behind each text's end."""
    draw = np.random.default_rng(seed)
    ends = draw.integers(3, 13, (rows, 1))
    return {"ids": draw.integers(0, 100, (rows, 12)), "mask": (np.arange(12) < ends).astype(np.int64)}


def pictures(rows: int) -> Array:
    """Blots [rows, 1, 8, 8] from 0 to 1."""
    return np.random.default_rng(2).random((rows, 1, 8, 8), np.float32) ** 2


def convolutions(path: Path, seed: int = 0) -> Path:
    """Two convolutions with a residual sum, a pool and a head over pictures [N, 1, 8, 8]."""
    draw = np.random.default_rng(seed)
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        make("Relu", ["c1"], ["r1"]),
        make("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        make("Add", ["c2", "r1"], ["s"]),
        make("Relu", ["s"], ["r2"]),
        make("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["p"], ["f"]),
        make("Gemm", ["f", "head", "bias"], ["scores"]),
    ]
    shapes = {"w1": (16, 1, 3, 3), "w2": (16, 16, 3, 3), "head": (256, 10)}
    scale = {"w1": 0.3, "w2": 0.08, "head": 0.06}
    constants = [
        artifacts.constant(name, draw.normal(0, scale[name], shape).astype(np.float32))
        for name, shape in shapes.items()
    ]
    constants += [artifacts.constant(name, np.zeros(size, np.float32)) for name, size in [("b1", 16), ("b2", 16)]]
    constants += [artifacts.constant("bias", np.zeros(10, np.float32))]
    return artifacts.save(
        path, nodes, [artifacts.tensor("image", ["N", 1, 8, 8])], [artifacts.tensor("scores", ["N", 10])], constants
    )


def trees(path: Path) -> Path:
    """A bare file with an operator of classic machine learning."""
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0])
    graph = helper.make_graph([node], "g", [artifacts.tensor("x", ["N", 2])], [artifacts.tensor("y", ["N", 2])])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("ai.onnx.ml", 3)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return path
