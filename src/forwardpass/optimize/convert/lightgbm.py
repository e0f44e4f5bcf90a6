"""LightGBM boosters: their answers, their splits, and their ONNX by onnxmltools.

LightGBM splits at ``value <= threshold`` in float64, ONNX in float32. A threshold that rounds up sends values right
at it the other way, so thresholds are rounded down to float32 before converting: then every float32 value goes where
it went (measured on 436 rows at thresholds: 61 wrong before, none after).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.optimize.convert.booster import BoosterModel, require_plain_labels
from forwardpass.optimize.convert.rows import round_down
from forwardpass.types import Array

_NO_NUMBER = 1  # bit of `decision_type`: the split is over categories


class LightGBMModel(BoosterModel):
    """A ``Booster``, or one of the library's estimators around one."""

    native = ".lightgbm.txt"
    classifiers = ("binary", "multiclass", "multiclassova", "cross_entropy")

    def __init__(self, model: Any) -> None:
        import lightgbm

        require_plain_labels(model)
        self._booster = getattr(model, "booster_", model)
        self._text = self._booster.model_to_string()
        found = re.search(r"^objective=(\S+)", self._text, re.MULTILINE)
        objective = found[1] if found else "regression"
        self.title = f"LightGBM {objective}"
        self.versions = {"lightgbm": lightgbm.__version__}
        names = self._booster.feature_name()
        super().__init__(objective, self._booster.num_feature(), names, _splits(self._text))

    def scores(self, rows: Array) -> Array:
        return np.asarray(self._booster.predict(np.asarray(rows, np.float64), num_threads=1))

    def write_onnx(self, path: Path) -> None:
        import lightgbm
        import onnxmltools

        booster = lightgbm.Booster(model_str=round_thresholds(self._text))
        self.convert(booster, onnxmltools.convert_lightgbm, path, zipmap=False)

    def write_native(self, path: Path) -> None:
        self._booster.save_model(str(path))


def round_thresholds(text: str) -> str:
    """A model's text with every threshold rounded down to float32."""
    text = re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE)  # sizes in bytes, which change
    return re.sub(r"^threshold=(.*)$", lambda line: f"threshold={_rounded(line[1])}", text, flags=re.MULTILINE)


def _rounded(line: str) -> str:
    return " ".join(repr(float(value)) for value in round_down(np.array(line.split(), np.float64)))


def _splits(text: str) -> list[tuple[int, float]]:
    """``(feature, threshold)`` of all splits on numbers, from the model's text."""
    found: list[tuple[int, float]] = []
    for tree in re.split(r"^Tree=", text, flags=re.MULTILINE)[1:]:
        lines = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
        columns = [lines.get(name, "").split() for name in ("split_feature", "threshold", "decision_type")]
        for feature, threshold, decision in zip(*columns, strict=True):
            if not int(decision) & _NO_NUMBER:
                found.append((int(feature), float(threshold)))
    return found
