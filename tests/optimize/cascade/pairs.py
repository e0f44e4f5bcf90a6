"""A small and a large model for tests, and rows for them: who is right how often is known.

Rows have a class and an evidence: ``x`` is a score per class. The large model sees all of it, the small one a part,
so that it is unsure where it is wrong. Both give ``probabilities`` and, by a step, ``label``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from onnx import helper
from tests import artifacts

CLASSES = 3
NAMES = ("ash", "beech", "cedar")
CONFIG = """
postprocess:
  - {step: arg_max, input: probabilities, output: label}
  - {step: labels, input: label, labels: [%s]}
outputs: [label, probabilities]
"""


def model(folder: Path, columns: tuple[int, ...], sharpness: float, names: tuple[str, ...] = NAMES) -> Path:
    """Softmax over the sum of some of the ``CLASSES`` scores' readings; ``sharpness`` too high is overconfident."""
    matrix = np.zeros((2 * CLASSES, CLASSES), np.float32)
    for reading in columns:
        matrix[reading * CLASSES : (reading + 1) * CLASSES] = sharpness * np.eye(CLASSES)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    artifacts.save(
        folder / "model.onnx",
        nodes,
        [artifacts.tensor("x", ["N", 2 * CLASSES])],
        [artifacts.tensor("probabilities", ["N", CLASSES])],
        [artifacts.constant("w", matrix)],
    )
    (folder / "model.yaml").write_text(CONFIG % ", ".join(names), encoding="utf-8")
    return folder


def small(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    return model(folder, (0,), 15.0, names)


def large(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    return model(folder, (0, 1), 2.0, names)


def rows(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Two readings of each class's score [rows, 6], the right one higher; and the classes."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, count)
    right = np.eye(CLASSES)[classes]
    first = right + 0.5 * random.standard_normal((count, CLASSES))
    second = 2 * right + 0.7 * random.standard_normal((count, CLASSES))
    return np.concatenate([first, second], axis=1).astype(np.float32), classes


def held_out(path: Path, count: int = 1200, names: tuple[str, ...] = NAMES) -> Path:
    x, classes = rows(count)
    pq.write_table(pa.table({"x": x.tolist(), "label": np.array(names)[classes]}), path)
    return path
