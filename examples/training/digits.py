"""Trains `examples/models/digits`: run as `python examples/training/digits.py`, two to five minutes.

Scans drawn as pictures and synthetic drawings are put through the very steps that `model.yaml`
names, and learned by a small network with an eleventh class for what is no digit. Writes `model.onnx`, `sample.png` and
the figures of the model card. The same versions of the libraries give the same artifact.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a program: the repository's root

from examples.training import digits_pictures as pictures
from examples.training import digits_strokes as strokes
from examples.training.digits_pictures import Pixels, Random
from examples.training.model_card import write_card

import forwardpass
from forwardpass.config import read_model_config
from forwardpass.pipeline import create_pipeline
from forwardpass.types import DType, TensorSpec

FOLDER = Path(__file__).parents[1] / "models" / "digits"
UNKNOWN = 10
PICTURES_PER_SCAN = 30
DRAWINGS_PER_DIGIT = 3_000
DRAWINGS_PER_OTHER = 350


def main() -> None:
    random = np.random.default_rng(11)
    features, labels = features_of(training_pictures(random))
    print(f"{len(features)} pictures, {np.count_nonzero(labels == UNKNOWN)} of them no digit")
    network = train(features, labels)
    onnx.save(to_onnx(network), FOLDER / "model.onnx")
    write_sample()
    figures = figures_of(forwardpass.load(FOLDER, threads=1))
    write_card(FOLDER, figures)
    print("\n".join(f"{name}: {figure}" for name, figure in figures.items()))


def training_pictures(random: Random) -> Iterator[tuple[Pixels, int]]:
    """Pictures with their classes, 0 to 9 and ``UNKNOWN``, one after another: together they fill gigabytes."""
    ink, digits = pictures.scans()
    font = pictures.outline_font()
    for sign, digit in zip(ink[: pictures.TRAINED_SCANS], digits[: pictures.TRAINED_SCANS], strict=True):
        for _ in range(PICTURES_PER_SCAN):
            yield pictures.draw(sign, random), int(digit)
    for digit in range(10):
        # without printed digits the network takes crisp, even strokes for the mark of a letter
        for _ in range(150):
            yield pictures.draw(pictures.letter(str(digit), font, random), random), digit
        ways = strokes.DIGITS[str(digit)]
        for drawing in range(DRAWINGS_PER_DIGIT):
            yield strokes.drawing(ways[drawing % len(ways)], random), digit
    for picture in _no_digits(font, random):
        yield picture, UNKNOWN


def _no_digits(font: Any, random: Random) -> Iterator[Pixels]:
    for sign in pictures.SIGNS * 250:
        yield pictures.draw(pictures.letter(sign, font, random, 0.7), random)
    for ways in strokes.OTHERS.values():
        for drawing in range(DRAWINGS_PER_OTHER):
            yield strokes.drawing(ways[drawing % len(ways)], random)
    for _ in range(5_000):
        yield pictures.draw(pictures.scribble(random), random)
    for _ in range(4_000):
        yield pictures.draw(pictures.cut_shape(random), random)
    for number, patch in enumerate(pictures.photo_patches("china.jpg", 16_000, random)):
        yield pictures.soften(patch, random) if number < 7_000 else patch
    for number in range(4_000):
        picture = pictures.noise(random)
        yield pictures.soften(picture, random) if number < 2_000 else picture
    for level in range(256):
        yield np.full((9, 9), level, np.uint8)


def features_of(labelled: Iterator[tuple[Pixels, int]]) -> tuple[Pixels, Pixels]:
    """What the network sees, the model's own preprocessing but for decoding the file; and the classes."""
    entries = [entry for entry in read_model_config(FOLDER).preprocess if entry["step"] != "decode_image"]
    gray = TensorSpec("image", DType.UINT8, (None, None, None))
    pipeline = create_pipeline(entries, [gray], FOLDER, "preprocess")
    features, labels = [], []
    while part := list(islice(labelled, 1000)):
        column = np.empty(len(part), dtype=object)
        column[:] = [picture for picture, _ in part]
        features.append(pipeline.run({"image": column})["ink"])
        labels += [label for _, label in part]
    return np.concatenate(features), np.array(labels)


def train(features: Pixels, labels: Pixels) -> MLPClassifier:
    """A coarse and a fine pass: 18 epochs, then 8 at a fifth of the learning rate."""
    warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
    rows = features.reshape(len(features), -1)
    network = MLPClassifier((256, 96), alpha=1e-3, batch_size=256, max_iter=18, random_state=1)
    network.fit(rows, labels)
    network.set_params(warm_start=True, max_iter=8)
    network._optimizer.learning_rate_init = network.learning_rate_init / 5
    return network.fit(rows, labels)


def to_onnx(network: MLPClassifier) -> onnx.ModelProto:
    """The network as ONNX: ``ink`` [rows, 16, 16] in, ``scores`` (before the softmax) [rows, 11] out."""
    nodes = [helper.make_node("Flatten", ["ink"], ["layer0"], axis=1)]
    weights = []
    last = len(network.coefs_)
    for number, (matrix, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True), 1):
        weights += [numpy_helper.from_array(np.float32(matrix), f"weights{number}")]
        weights += [numpy_helper.from_array(np.float32(bias), f"bias{number}")]
        total = "scores" if number == last else f"total{number}"
        nodes.append(helper.make_node("Gemm", [f"layer{number - 1}", f"weights{number}", f"bias{number}"], [total]))
        if number < last:
            nodes.append(helper.make_node("Relu", [total], [f"layer{number}"]))
    ink = helper.make_tensor_value_info("ink", TensorProto.FLOAT, ["rows", 16, 16])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", UNKNOWN + 1])
    graph = helper.make_graph(nodes, "digits", [ink], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_sample() -> None:
    """A held-out 5, drawn dark on light with margins."""
    ink, digits = pictures.scans()
    row = pictures.TRAINED_SCANS + int(np.argmax(digits[pictures.TRAINED_SCANS :] == 5))
    (FOLDER / "sample.png").write_bytes(pictures.png(pictures.draw(ink[row], np.random.default_rng(6), bend=0)))


def figures_of(engine: forwardpass.Engine) -> dict[str, float]:
    return pictures.evaluate(lambda images: [row["label"] for row in engine.predict(images)])


if __name__ == "__main__":
    main()
