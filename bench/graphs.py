"""The three networks as ONNX graphs with random weights; nothing is downloaded and no torch needed.

Speed depends on shapes and operators, not on what a network has learned. Weights are scaled so
that activations stay in the usual range: denormal numbers and infinities would distort timings.
Knows nothing of files, tokenizers or servers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 10  # the first opset with Gelu as one operator
Array = NDArray[Any]


class Graph:
    """Collects nodes and weights; every method returns the name of what it added."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def weight(self, array: Array) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape: int, scale: float) -> str:
        return self.weight((self._random.standard_normal(shape) * scale).astype(np.float32))

    def number(self, value: float) -> str:
        return self.weight(np.array(value, dtype=np.float32))

    def ints(self, *values: int) -> str:
        return self.weight(np.array(values, dtype=np.int64))

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def linear(self, x: str, inputs: int, outputs: int, name: str | None = None) -> str:
        product = self.node("MatMul", x, self.random(inputs, outputs, scale=inputs**-0.5))
        return self.node("Add", product, self.random(outputs, scale=0.01), name=name)

    def layer_norm(self, x: str, size: int) -> str:
        ones, zeros = np.ones(size, np.float32), np.zeros(size, np.float32)
        return self.node("LayerNormalization", x, self.weight(ones), self.weight(zeros), axis=-1, epsilon=1e-12)

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        scale = (2.0 / (inputs * kernel * kernel)) ** 0.5
        weights = self.random(outputs, inputs, kernel, kernel, scale=scale)
        bias = self.random(outputs, scale=0.01)
        pads = [kernel // 2] * 4
        return self.node("Conv", x, weights, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def model(self, inputs: dict[str, tuple[int, list[Any]]], output: str, shape: list[Any]) -> onnx.ModelProto:
        """The finished model; ``inputs`` maps a name to its element type and shape."""
        values = [helper.make_tensor_value_info(name, kind, shape_) for name, (kind, shape_) in inputs.items()]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self._nodes, "bench", values, [result], self._weights)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


def tiny_network() -> onnx.ModelProto:
    """64 floats ``x`` in, a hidden layer of 128, a hidden layer of 64, 10 floats ``y`` out."""
    graph = Graph(seed=1)
    hidden = graph.node("Relu", graph.linear("x", 64, 128))
    hidden = graph.node("Relu", graph.linear(hidden, 128, 64))
    graph.linear(hidden, 64, 10, name="y")
    return graph.model({"x": (TensorProto.FLOAT, ["batch", 64])}, "y", ["batch", 10])


def text_encoder(layers: int = 6, size: int = 384, heads: int = 12, vocabulary: int = 30522) -> onnx.ModelProto:
    """A BERT encoder of MiniLM-L6's shape: ``input_ids``, ``attention_mask`` in, mean-pooled ``embedding`` out."""
    graph = Graph(seed=2)
    words = graph.node("Gather", graph.random(vocabulary, size, scale=0.02), "input_ids")
    length = graph.node("Shape", "input_ids", start=1, end=2)
    positions = graph.node("Slice", graph.random(512, size, scale=0.02), graph.ints(0), length, graph.ints(0))
    x = graph.layer_norm(graph.node("Add", words, positions), size)
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    absent = graph.node("Sub", graph.number(1.0), mask)
    penalty = graph.node("Mul", absent, graph.number(-10_000.0))
    penalty = graph.node("Unsqueeze", penalty, graph.ints(1, 2))
    for _ in range(layers):
        x = _encoder_layer(graph, x, penalty, size, heads)
    _mean_pool(graph, x, mask)
    axes = ["batch", "sequence"]
    inputs = {"input_ids": (TensorProto.INT64, axes), "attention_mask": (TensorProto.INT64, axes)}
    return graph.model(inputs, "embedding", ["batch", size])


def _encoder_layer(graph: Graph, x: str, penalty: str, size: int, heads: int) -> str:
    split = graph.ints(0, 0, heads, size // heads)

    def head(order: list[int]) -> str:
        return graph.node("Transpose", graph.node("Reshape", graph.linear(x, size, size), split), perm=order)

    query, key, value = head([0, 2, 1, 3]), head([0, 2, 3, 1]), head([0, 2, 1, 3])
    scale = graph.number((size // heads) ** -0.5)
    scores = graph.node("Mul", graph.node("MatMul", query, key), scale)
    attention = graph.node("Softmax", graph.node("Add", scores, penalty), axis=-1)
    joined = graph.node("Transpose", graph.node("MatMul", attention, value), perm=[0, 2, 1, 3])
    merged = graph.linear(graph.node("Reshape", joined, graph.ints(0, 0, size)), size, size)
    x = graph.layer_norm(graph.node("Add", x, merged), size)
    hidden = graph.node("Gelu", graph.linear(x, size, 4 * size))
    return graph.layer_norm(graph.node("Add", x, graph.linear(hidden, 4 * size, size)), size)


def _mean_pool(graph: Graph, x: str, mask: str) -> str:
    wide = graph.node("Unsqueeze", mask, graph.ints(2))
    total = graph.node("ReduceSum", graph.node("Mul", x, wide), graph.ints(1), keepdims=0)
    count = graph.node("ReduceSum", wide, graph.ints(1), keepdims=0)
    return graph.node("Div", total, count, name="embedding")


def image_network() -> onnx.ModelProto:
    """ResNet-18 (normalisation folded into the convolutions): ``image`` [batch,3,224,224] in, 1000 ``scores`` out."""
    graph = Graph(seed=3)
    x = graph.node("Relu", graph.conv("image", 3, 64, kernel=7, stride=2))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        x = _residual_block(graph, x, width, outputs, stride)
        x = _residual_block(graph, x, outputs, outputs, 1)
        width = outputs
    pooled = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    graph.linear(pooled, width, 1000, name="scores")
    inputs = {"image": (TensorProto.FLOAT, ["batch", 3, 224, 224])}
    return graph.model(inputs, "scores", ["batch", 1000])


def _residual_block(graph: Graph, x: str, inputs: int, outputs: int, stride: int) -> str:
    inner = graph.node("Relu", graph.conv(x, inputs, outputs, kernel=3, stride=stride))
    inner = graph.conv(inner, outputs, outputs, kernel=3, stride=1)
    shortcut = x if inputs == outputs else graph.conv(x, inputs, outputs, kernel=1, stride=stride)
    return graph.node("Relu", graph.node("Add", inner, shortcut))
