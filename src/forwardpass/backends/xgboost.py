"""XGBoost: runs ``.xgboost.json`` and ``.ubj`` artifacts on the CPU.

The only module that imports ``xgboost``. Missing values are NaN. Classes are numbered, as XGBoost numbers them;
``label`` is that number. A model stopped early answers with its best round. A
file damaged inside may end the process: the library checks little. Knows no ``model.yaml`` and no requests.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

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
from forwardpass.types import Array, Columns, DType

# XGBoostError is a ValueError, and so is text that is not UTF-8
_ERRORS = (ValueError, TypeError, KeyError, RuntimeError, OSError)
_CLASSES = ("binary:logistic", "binary:hinge", "multi:softprob", "multi:softmax")


class XGBoostBackend(Backend):
    """One booster: trees, with dropout or without, or a linear model.

    ``features`` is FP32. Classifiers give ``label`` and ``probabilities``, all other objectives ``prediction``:
    what ``Booster.predict`` gives.
    """

    name = "xgboost"

    def __init__(self, artifact: Path, threads: int, config: BackendConfig | None = None) -> None:
        """Load an artifact to compute with ``threads`` threads; ``InvalidModel`` if it cannot be used."""
        require_plain(artifact, config, "XGBoost")
        self._booster = _load(artifact, threads)
        learner = json.loads(self._booster.save_config())["learner"]
        objective = learner["objective"]["name"]
        self._linear = learner["gradient_booster"]["name"] == "gblinear"
        self._margin = objective == "multi:softmax"  # it would give the label alone
        best = self._booster.attr("best_iteration")
        self._rounds = (0, int(best) + 1) if best and not self._linear else (0, 0)  # (0, 0): all of them
        columns = self._booster.num_features()
        self.inputs = (features_spec(columns, DType.FP32),)
        answer = self._predict(np.zeros((1, columns), np.float32))
        several = answer.ndim == 2 and not objective.startswith("multi:")  # several targets, each with its own
        self._classifies = objective in _CLASSES and not several
        if self._classifies:
            self.outputs = classifier_specs(answer.shape[1] if answer.ndim == 2 else 2)
        else:
            self.outputs = (prediction_spec(answer.shape, DType.FP32),)
        self.batched = True

    def run(self, columns: Columns) -> Columns:
        check_columns(columns, self.inputs)
        features = columns[FEATURES]
        if not len(features):
            return empty_columns(self.outputs)
        answer = self._predict(features)
        return classifier_columns(answer) if self._classifies else {PREDICTION: answer}

    def close(self) -> None:
        del self._booster  # memory is freed with the last reference

    def _predict(self, features: Array) -> Array:
        try:
            if self._linear:  # which cannot be run in place
                table = xgboost.DMatrix(features)
                answer = self._booster.predict(table, output_margin=self._margin, validate_features=False)
            else:
                kind = "margin" if self._margin else "value"
                answer = self._booster.inplace_predict(
                    features, iteration_range=self._rounds, predict_type=kind, validate_features=False
                )
        except _ERRORS as reason:
            raise BackendFailed(f"the artifact failed: {_short(reason)}") from None
        answer = np.asarray(answer, np.float32)
        return _softmax(answer) if self._margin else answer


def _load(artifact: Path, threads: int) -> Any:
    try:
        content = artifact.read_bytes()
        if not content:
            raise ValueError("it is empty")  # on which the library ends the process
        booster = xgboost.Booster(model_file=bytearray(content))
        booster.set_param({"nthread": threads})
    except OSError as reason:
        raise InvalidModel(f"{artifact.name}: cannot be read: {reason.strerror}") from None
    except _ERRORS as reason:
        raise InvalidModel(
            f"{artifact.name}: is not an XGBoost model in JSON or UBJSON, or is cut short ({_short(reason)}); "
            "save it with booster.save_model('model.ubj')"
        ) from None
    if not booster.num_features():
        raise InvalidModel(f"{artifact.name}: the model is not trained: it takes no features")
    return booster


def _softmax(margins: Array) -> Array:
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _short(reason: Exception) -> str:
    """The library's message without the time, its source file and its stack."""
    text = str(reason).partition("Stack trace:")[0]
    return one_line(re.sub(r"\[\d+:\d+:\d+\] \S+:\d+: ", "", text))
