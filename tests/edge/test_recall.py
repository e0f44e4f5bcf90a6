"""What is kept of a prediction over HTTP until somebody wants to know."""

from __future__ import annotations

from typing import Any

import pytest

from forwardpass.edge.message import message_of
from forwardpass.edge.outbox.entry import Kind
from forwardpass.edge.outbox.privacy import Level, Privacy
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.recall import Instances, size_of


def test_rows_are_made_where_the_owner_lets_them_leave_and_nowhere_else() -> None:
    made: list[int] = []

    def make() -> list[Any]:
        made.append(1)
        return ["row", "row"]

    prediction = Prediction("id-1", "http", 0.0, "m", "1", Instances(2, make), [1, 2])
    [(kind, body, _, _)] = Privacy(Level.OUTPUTS).entries(prediction)
    assert kind is Kind.RECORD
    assert b'"rows":2' in body
    message_of(prediction)
    assert made == []
    _, (kind, body, _, _) = Privacy(Level.ALL).entries(prediction)
    assert kind is Kind.SAMPLE
    assert b'"instances":["row","row"]' in body


def test_rows_are_made_once() -> None:
    rows = iter([[1, 2, 3]])
    instances = Instances(3, lambda: next(rows))
    assert (len(instances), instances[0], instances[1:], list(instances)) == (3, 1, [2, 3], [1, 2, 3])


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ([[0.5] * 1000] * 10, 200_000, 400_000),
        ([{"b64": "x" * 5000}, {"b64": "y" * 7000}], 12_000, 13_000),
        (None, 1, 100),
        ([], 1, 100),
    ],
)
def test_how_much_memory_rows_take_is_guessed(value: Any, least: int, most: int) -> None:
    assert least <= size_of(value) <= most
