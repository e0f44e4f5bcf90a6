"""Names and shapes that models of tables share, whichever library trained them.

    features [rows, columns] ─► classifier ─► label [rows], probabilities [rows, classes]
                             ─► regressor  ─► prediction [rows] or [rows, targets]

The same names as ``forwardpass import`` writes, so that an artifact can be exchanged for its conversion.
"""

from __future__ import annotations

import numpy as np

from forwardpass.types import Array, Columns, DType, TensorSpec

FEATURES = "features"
LABEL = "label"
PROBABILITIES = "probabilities"
PREDICTION = "prediction"


def features_spec(columns: int, dtype: DType) -> TensorSpec:
    return TensorSpec(FEATURES, dtype, (None, columns))


def classifier_specs(classes: int, label: DType = DType.INT64) -> tuple[TensorSpec, ...]:
    return TensorSpec(LABEL, label, (None,)), TensorSpec(PROBABILITIES, DType.FP32, (None, classes))


def prediction_spec(shape: tuple[int, ...], dtype: DType) -> TensorSpec:
    """``shape`` is that of a batch of predictions, its first axis the rows."""
    return TensorSpec(PREDICTION, dtype, (None, *shape[1:]))


def classifier_columns(probabilities: Array) -> Columns:
    """Label (the number of the likeliest class; the first of equals) and probabilities.

    Takes [rows, classes] or, for two classes, the probability of the second alone, [rows].
    """
    if probabilities.ndim == 1:
        probabilities = np.stack([1 - probabilities, probabilities], axis=1)
    label = probabilities.argmax(axis=1).astype(np.int64)
    return {LABEL: label, PROBABILITIES: probabilities.astype(np.float32, copy=False)}
