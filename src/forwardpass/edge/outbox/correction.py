"""What is told of an answer that came later: of which prediction, which of its rows, and whether they are decided
otherwise now. Knows neither who asked nor who is told.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec


class Escalation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of one prediction that are to be asked about, what was answered at the time, and what came since.

    ``rows`` are their numbers in the prediction; ``model`` and ``version`` say who answered at the time.
    """

    id: str
    source: str
    model: str
    version: str
    rows: list[int]
    instances: list[Any]
    answers: list[Any]
    corrected: list[Any] | None = None


def message_of(escalation: Escalation) -> dict[str, Any]:
    """What is sent of one that is corrected. The inputs stay here."""
    corrected = escalation.corrected or []
    pairs = zip(escalation.answers, corrected, strict=True)
    return {
        "id": escalation.id,
        "source": escalation.source,
        "model": escalation.model,
        "version": escalation.version,
        "rows": escalation.rows,
        "predictions": corrected,
        "corrected": True,
        "changed": [decision(before) != decision(after) for before, after in pairs],
    }


def decision(answer: Any) -> Any:
    """What the answer to a row decides: its texts, whole numbers and flags, where there are any.

    Else which number of each output is the largest; of a single one, a probability, whether it is 0.5 or more. Two
    models never agree on fractions, so these decide nothing where something else does.
    """
    outputs = answer if isinstance(answer, dict) else {"": answer}
    numbers = {name: _fractions(value) for name, value in outputs.items()}
    whole = {name: value for name, value in outputs.items() if numbers[name] is None}
    return whole or {name: _largest(values) for name, values in numbers.items() if values}


def _fractions(value: Any) -> list[float] | None:
    """All numbers of a value of any shape, or None where it holds anything but fractions."""
    if isinstance(value, list):
        found = [_fractions(item) for item in value]
        return None if None in found else [number for numbers in found for number in numbers or ()]
    if value is None:  # what is no number, as JSON says it
        return [-math.inf]
    return [value] if isinstance(value, float) else None


def _largest(values: list[float]) -> Any:
    return values[0] >= 0.5 if len(values) == 1 else values.index(max(values))
