"""LightGBM: runs ``.lightgbm.txt`` artifacts on the CPU.

The only module that imports ``lightgbm``. Missing values are NaN. The text holds no names of classes: ``label`` is
the class's number. A file damaged inside may end the process: the library checks little. Knows no ``model.yaml`` and
no requests.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from forwardpass.backends.base import Backend
from forwardpass.backends.checks import check_columns, empty_columns, one_line, require_plain
from forwardpass.backends.tabular import (
    FEATURES,
    PREDICTION,
    classifier_columns,
    classifier_specs,
    features_spec,
    prediction_spec,
)
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, InvalidModel
from forwardpass.types import Columns, DType

_ERRORS = (lightgbm.basic.LightGBMError, ValueError, TypeError, RuntimeError, OSError)
_CLASSES = ("binary", "multiclass", "multiclassova")
_HEADER = 12  # lines; the objective is among the first


class LightGBMBackend(Backend):
    """One booster.

    ``features`` is FP64, as the thresholds of its trees are. Classifiers give ``label`` and ``probabilities``, all
    other objectives ``prediction``: what ``Booster.predict`` gives.
    """

    name = "lightgbm"

    def __init__(self, artifact: Path, threads: int, config: BackendConfig | None = None) -> None:
        """Load an artifact to compute with ``threads`` threads; ``InvalidModel`` if it cannot be used."""
        require_plain(artifact, config, "LightGBM")
        self._booster = _load(artifact)
        self._threads = threads
        self._classifies = _objective(artifact) in _CLASSES
        scores = self._booster.num_model_per_iteration()
        self.inputs = (features_spec(self._booster.num_feature(), DType.FP64),)
        if self._classifies:
            self.outputs = classifier_specs(max(scores, 2))
        else:
            self.outputs = (prediction_spec((1, scores) if scores > 1 else (1,), DType.FP64),)
        self.batched = True

    def run(self, columns: Columns) -> Columns:
        check_columns(columns, self.inputs)
        features = columns[FEATURES]
        if not len(features):
            return empty_columns(self.outputs)
        try:
            answer = np.asarray(self._booster.predict(features, num_threads=self._threads))
        except _ERRORS as reason:
            raise BackendFailed(f"the artifact failed: {one_line(reason)}") from None
        return classifier_columns(answer) if self._classifies else {PREDICTION: answer}

    def close(self) -> None:
        del self._booster  # memory is freed with the last reference


def _load(artifact: Path) -> Any:
    if not artifact.is_file():
        raise InvalidModel(f"{artifact.name}: there is no such file in {artifact.parent}")
    try:
        with redirect_stdout(sys.stderr):  # where its warnings belong: standard output is for answers
            return lightgbm.Booster(model_file=artifact)
    except _ERRORS as reason:
        raise InvalidModel(
            f"{artifact.name}: is not a LightGBM model in text, or is cut short ({one_line(reason)}); "
            "save it with booster.save_model('model.lightgbm.txt')"
        ) from None


def _objective(artifact: Path) -> str:
    """The objective's name, from the lines before the trees; empty for a model trained on one of its user's own."""
    with artifact.open(encoding="utf-8", errors="replace") as lines:
        for line in islice(lines, _HEADER):
            key, _, value = line.strip().partition("=")
            if key == "objective":
                return value.split()[0] if value else ""
    return ""
