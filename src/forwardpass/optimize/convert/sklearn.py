"""scikit-learn estimators and pipelines: their answers, ranges to draw rows from, and their ONNX by skl2onnx.

Takes classifiers and regressors over one matrix of numbers. The ranges come from what the parts have learnt: the
splits of trees, means and scales, minima and maxima, support vectors, stored rows; else -3 to 3.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.errors import BackendFailed, InvalidModel
from forwardpass.optimize.convert.base import FEATURES, LABEL, PREDICTION, PROBABILITIES, Trained
from forwardpass.optimize.convert.graph import finish
from forwardpass.optimize.convert.rows import Ranges, draw_rows, features_from_table, round_down, split_ranges
from forwardpass.types import Columns

# Attributes that hold further estimators, in the order in which rows meet them.
_PARTS = ("steps", "estimators_", "estimator_", "estimator", "best_estimator_", "calibrated_classifiers_", "init_")


class SklearnModel(Trained):
    """A fitted estimator."""

    native = ".skops"

    def __init__(self, estimator: Any) -> None:
        """Raises ``InvalidModel`` where it is not fitted, or neither a classifier nor a regressor."""
        import sklearn
        from sklearn.base import is_classifier, is_regressor

        self._estimator = estimator
        self.title = _title(estimator)
        self.versions = {"scikit-learn": sklearn.__version__}
        if not (is_classifier(estimator) or is_regressor(estimator)):
            raise InvalidModel(f"{self.title} is neither a classifier nor a regressor; nothing else can be imported")
        features = getattr(estimator, "n_features_in_", None)
        if features is None:
            raise InvalidModel(f"{self.title} is not fitted, or does not say how many features it takes; fit it first")
        self._features = int(features)
        self._names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        if is_classifier(estimator):
            self._outputs = [LABEL, PROBABILITIES] if hasattr(estimator, "predict_proba") else [LABEL]
        else:
            self._outputs = [PREDICTION]
        self._ranges = _ranges(estimator, self._features)
        self.drawn = self._ranges.words

    def predict(self, columns: Columns) -> Columns:
        rows = columns[FEATURES]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of feature names that a matrix does not have
                answers = [np.asarray(self._estimator.predict(rows))]
                if PROBABILITIES in self._outputs:
                    answers.append(np.asarray(self._estimator.predict_proba(rows)))
        except (ValueError, TypeError, AttributeError) as reason:
            raise BackendFailed(f"{self.title} cannot answer these rows: {_line(str(reason))}") from None
        return dict(zip(self._outputs, answers, strict=True))

    def draw(self, rows: int) -> Columns:
        return draw_rows(self._ranges, rows)

    def columns(self, table: Columns) -> Columns:
        return features_from_table(table, self._features, self._names)

    def write_onnx(self, path: Path) -> None:
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType

        self.versions["skl2onnx"] = skl2onnx.__version__
        estimator = _with_rounded_thresholds(self._estimator)
        options = {id(estimator): {"zipmap": False}} if LABEL in self._outputs else None
        types = [(FEATURES, FloatTensorType([None, self._features]))]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = skl2onnx.convert_sklearn(estimator, initial_types=types, options=options)
        # The converters of each estimator raise what they like.
        except Exception as reason:  # noqa: BLE001
            raise InvalidModel(self._why_not(str(reason), skl2onnx.__version__)) from None
        finish(model, FEATURES, self._outputs, PREDICTION in self._outputs and self._is_single(), path)

    def write_native(self, path: Path) -> None:
        from skops.io import dump

        dump(self._estimator, path)

    def _is_single(self) -> bool:
        """Whether the answer is one number per row."""
        return self.predict(self.draw(12))[PREDICTION].ndim == 1

    def _why_not(self, text: str, version: str) -> str:
        """Names the part that has no converter, else what the converter said."""
        part = re.search(r"type '?<class '[\w.]*?(\w+)'>", text)
        if part and ("Unable to find" in text or "not supported" in text):
            within = "" if part[1] == self.title else f" within {self.title}"
            why = f"skl2onnx {version} has no converter for {part[1]}{within}"
        else:
            why = f"skl2onnx {version}: {_line(text)}"
        return f"{self.title} cannot be converted to ONNX: {why}; keep it as it is with --native"


def _title(estimator: Any) -> str:
    names = [type(part).__name__ for _, part in getattr(estimator, "steps", ())]
    return " + ".join(names) or type(estimator).__name__


def _line(text: str) -> str:
    line = " ".join(text.split()).rstrip(". ")
    return line if len(line) <= 200 else line[:199] + "…"


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator and all that it holds, in the order in which rows meet them."""
    yield estimator
    for name in _PARTS:
        held = getattr(estimator, name, None)
        items = held if isinstance(held, list | tuple) else np.ravel(held) if isinstance(held, np.ndarray) else [held]
        for item in items:
            part = item[1] if isinstance(item, tuple) and len(item) == 2 else item
            if hasattr(part, "get_params"):
                yield from _parts(part)


def _ranges(estimator: Any, features: int) -> Ranges:
    """From the first scaler or model that takes the estimator's own features; from trees where one does."""
    splits: list[tuple[int, float]] = []
    plain = None
    changed = False  # by a scaler or another transformer that rows meet before
    for part in _parts(estimator):
        if not changed and getattr(part, "n_features_in_", features) == features:
            if hasattr(part, "tree_"):
                tree = part.tree_
                inner = tree.children_left >= 0
                splits += zip(tree.feature[inner].tolist(), tree.threshold[inner].tolist(), strict=True)
            splits += _histogram_splits(part)
            plain = plain or _learnt(part, features)
        changed = changed or (hasattr(part, "transform") and not hasattr(part, "steps"))
    if splits:
        return split_ranges(features, splits)
    return plain or Ranges(np.full(features, -3.0), np.full(features, 3.0))


def _with_rounded_thresholds(estimator: Any) -> Any:
    """A copy in which histogram-based boosting splits where float32 values go as they went in float64.

    The converter rounds these thresholds to nearest (those of other trees it rounds down itself).
    """
    if not any(_histogram_trees(part) for part in _parts(estimator)):
        return estimator
    changed = deepcopy(estimator)
    for tree in (tree for part in _parts(changed) for tree in _histogram_trees(part)):
        tree.nodes = tree.nodes.copy()
        tree.nodes["num_threshold"] = round_down(tree.nodes["num_threshold"])
    return changed


def _histogram_trees(part: Any) -> list[Any]:
    return [tree for trees in getattr(part, "_predictors", ()) for tree in trees]


def _histogram_splits(part: Any) -> list[tuple[int, float]]:
    """The splits on numbers of histogram-based boosting, which keeps its trees to itself."""
    found: list[tuple[int, float]] = []
    for tree in _histogram_trees(part):
        nodes = tree.nodes[(tree.nodes["is_leaf"] == 0) & (tree.nodes["is_categorical"] == 0)]
        found += zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True)
    return found


def _learnt(part: Any, features: int) -> Ranges | None:
    """Ranges from one part's attributes, by what scikit-learn calls them; None where it has none."""
    low: Any = None
    high: Any = None
    if hasattr(part, "data_min_"):
        low, high = part.data_min_, part.data_max_
    elif getattr(part, "mean_", None) is not None and getattr(part, "scale_", None) is not None:
        low, high = part.mean_ - 3 * part.scale_, part.mean_ + 3 * part.scale_
    elif getattr(part, "center_", None) is not None and getattr(part, "scale_", None) is not None:
        low, high = part.center_ - 3 * part.scale_, part.center_ + 3 * part.scale_
    else:
        for name in ("support_vectors_", "_fit_X", "theta_"):
            stored = getattr(part, name, None)
            if isinstance(stored, np.ndarray) and stored.ndim == 2:
                low, high = stored.min(axis=0), stored.max(axis=0)
    if not (np.shape(low) == np.shape(high) == (features,)):
        return None
    return Ranges(np.asarray(low, np.float64), np.asarray(high, np.float64))
