"""What XGBoost and LightGBM have in common: a booster over features, whose objective says what it answers.

Classifiers answer ``label`` (0, 1 …) and ``probabilities``, all others ``prediction``. Knows neither library.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.errors import InvalidModel
from forwardpass.optimize.convert.base import FEATURES, LABEL, PREDICTION, PROBABILITIES, Trained
from forwardpass.optimize.convert.graph import finish
from forwardpass.optimize.convert.rows import draw_rows, features_from_table, split_ranges
from forwardpass.types import Array, Columns


class BoosterModel(Trained):
    """A booster; ``objective`` decides whether its scores are probabilities."""

    classifiers: tuple[str, ...]

    def __init__(self, objective: str, features: int, names: Sequence[str], splits: list[tuple[int, float]]) -> None:
        self._outputs = [LABEL, PROBABILITIES] if objective in self.classifiers else [PREDICTION]
        self._features = features
        self._names = list(names)
        self._ranges = split_ranges(features, splits)
        self.drawn = self._ranges.words

    def convert(self, booster: Any, converter: Callable[..., Any], path: Path, **options: Any) -> None:
        """Write what a converter of onnxmltools makes of the booster. Raises ``InvalidModel`` where it fails."""
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        version = self.versions["onnxmltools"] = onnxmltools.__version__
        try:
            model = converter(booster, initial_types=[(FEATURES, FloatTensorType([None, self._features]))], **options)
        # The converter raises what it likes.
        except Exception as reason:  # noqa: BLE001
            raise InvalidModel(
                f"{self.title} cannot be converted to ONNX: onnxmltools {version}: "
                f"{' '.join(str(reason).split())[:200]}; keep it as it is with --native"
            ) from None
        flat = LABEL not in self._outputs and self.predict(self.draw(12))[self._outputs[0]].ndim == 1
        finish(model, FEATURES, self._outputs, flat, path)

    @abstractmethod
    def scores(self, rows: Array) -> Array:
        """What the booster answers for ``[rows, features]``: ``[rows]`` or ``[rows, classes]``."""

    def predict(self, columns: Columns) -> Columns:
        scores = self.scores(columns[FEATURES])
        if PREDICTION in self._outputs:
            return {PREDICTION: scores}
        if scores.ndim == 1:
            scores = np.stack([1 - scores, scores], axis=1)
        return {LABEL: scores.argmax(axis=1).astype(np.int64), PROBABILITIES: scores}

    def draw(self, rows: int) -> Columns:
        return draw_rows(self._ranges, rows)

    def columns(self, table: Columns) -> Columns:
        return features_from_table(table, self._features, self._names)


def require_plain_labels(model: Any) -> None:
    """The wrappers that look like scikit-learn keep labels apart from the booster: only 0, 1 … need none."""
    labels = getattr(model, "classes_", None)
    if labels is not None and np.asarray(labels).tolist() != list(range(len(labels))):
        given = np.asarray(labels).tolist()[:5]
        raise InvalidModel(
            f"{type(model).__name__} was fitted on the labels {given}, which its booster does not know; "
            "fit it on 0, 1, 2 … and name them with a `label` step in model.yaml"
        )
