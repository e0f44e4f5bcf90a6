"""How sure an answer is: one confidence per row from the probabilities that a model gives, after its temperature.

    probabilities [rows, classes] ─► the largest of softmax(log p / T)
    one probability [rows] ─► sigmoid(logit p / T), or its complement where that is larger

A temperature above 1 takes confidence away, one below adds some; the answer stays (Guo et al. 2017, "On calibration
of modern neural networks"). What calibrates a cascade and what runs it both take it from here. Knows no threshold.
"""

from __future__ import annotations

import numpy as np

from forwardpass.types import Array

LEAST = 1e-15  # probability, so that its logarithm is finite


def confidence(probabilities: Array, temperature: float = 1.0) -> Array:
    """The probability of the answer. Shape: [rows], float64, 0 where a value is NaN: never sure.

    ``probabilities`` is [rows, classes], or [rows] or [rows, 1] for the probability of the second of two classes.
    """
    values = np.asarray(probabilities, np.float64)
    values = values[:, np.newaxis] if values.ndim == 1 else values
    table = np.concatenate([1 - values, values], axis=1) if values.shape[1] == 1 else values
    logarithms = np.log(np.maximum(table, LEAST)) / temperature  # NaN stays NaN
    below = logarithms - logarithms.max(axis=1, keepdims=True, initial=-np.inf)
    sure: Array = 1 / np.exp(below).sum(axis=1)
    return np.where(np.isnan(sure), 0.0, sure)


def flaw(probabilities: Array) -> str | None:
    """Why these values are no probabilities that a confidence can be taken from; None where they are.

    Several values in a row must be those of all classes: they sum to 1 to within a hundredth.
    """
    if probabilities.dtype.kind != "f":
        kind = "texts" if probabilities.dtype.kind == "O" else probabilities.dtype
        return f"its values are {kind}, and probabilities are floats"
    if probabilities.ndim not in (1, 2) or not probabilities[:1].size:
        shape = list(probabilities.shape[1:])
        return f"its values are of shape {shape} a row, and must be one number or one for each class"
    known = probabilities[~np.isnan(probabilities).reshape(len(probabilities), -1).any(axis=1)]
    if known.size and (known.min() < 0 or known.max() > 1):
        return f"it holds {float(known.min()):.4g} to {float(known.max()):.4g}, and a probability is between 0 and 1"
    if known.ndim == 2 and known.shape[1] > 1 and not np.allclose(known.sum(axis=1), 1, atol=1e-2):
        return "its values do not sum to 1 in each row; it must have the probability of every class (softmax)"
    return None
