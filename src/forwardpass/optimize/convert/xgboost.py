"""XGBoost boosters: their answers, their splits, and their ONNX by onnxmltools.

Missing values are NaN, as in the library. Takes trees over numbers; categories and linear boosters are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.errors import InvalidModel
from forwardpass.optimize.convert.booster import BoosterModel, require_plain_labels
from forwardpass.types import Array


class XGBoostModel(BoosterModel):
    """A ``Booster``, or one of the library's estimators around one."""

    native = ".xgboost.json"
    classifiers = ("binary:logistic", "multi:softprob")

    def __init__(self, model: Any) -> None:
        import xgboost

        require_plain_labels(model)
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        self._booster = booster.copy()
        settings = json.loads(booster.save_config())["learner"]
        self._objective = settings["objective"]["name"]
        self.title = f"XGBoost {self._objective}"
        self.versions = {"xgboost": xgboost.__version__}
        names = booster.feature_names or []
        # The converter knows features by number alone.
        self._booster.feature_names = None
        self._booster.feature_types = None
        super().__init__(self._objective, booster.num_features(), names, _splits(self._booster))

    def scores(self, rows: Array) -> Array:
        import xgboost

        best = getattr(self._booster, "best_iteration", None) if self._booster.attr("best_iteration") else None
        upto = (0, best + 1) if best is not None else (0, 0)
        return np.asarray(self._booster.predict(xgboost.DMatrix(rows), iteration_range=upto))

    def write_onnx(self, path: Path) -> None:
        import onnxmltools

        if self._objective == "multi:softmax":
            raise InvalidModel(
                f"{self.title} cannot be converted to ONNX: it answers labels without probabilities, for which "
                "onnxmltools has no converter; train it with multi:softprob, or keep it as it is with --native"
            )
        self.convert(self._booster, onnxmltools.convert_xgboost, path)

    def write_native(self, path: Path) -> None:
        self._booster.save_model(path)


def _splits(booster: Any) -> list[tuple[int, float]]:
    """``(feature, threshold)`` of all splits on numbers."""
    found: list[tuple[int, float]] = []
    for tree in booster.get_dump(dump_format="json"):
        nodes = [json.loads(tree)]
        while nodes:
            node = nodes.pop()
            if isinstance(node.get("split_condition"), int | float):
                found.append((int(str(node["split"]).removeprefix("f")), float(node["split_condition"])))
            nodes += node.get("children", [])
    return found
