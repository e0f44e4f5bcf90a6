"""What is told of a prediction to the world outside: facts of it and its answers, never its inputs.

Knows neither who tells it nor to whom.
"""

from __future__ import annotations

from typing import Any

from forwardpass.edge.prediction import Prediction


def message_of(prediction: Prediction) -> dict[str, Any]:
    """What is sent of every prediction. The inputs stay here."""
    return {**head_of(prediction), "predictions": prediction.answers}


def head_of(prediction: Prediction) -> dict[str, Any]:
    """Which prediction it is, and what must be known about it beside its answers."""
    head: dict[str, Any] = {
        "id": prediction.id,
        "source": prediction.source,
        "at": prediction.at,
        "model": prediction.model,
        "version": prediction.version,
    }
    if prediction.provisional:
        head["provisional"] = True
    if prediction.confidence is not None:
        head["confidence"] = prediction.confidence
    if prediction.error is not None:
        head["error"] = prediction.error
    return head
