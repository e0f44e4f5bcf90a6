from __future__ import annotations

import itertools
import math

import numpy as np
import orjson
import pytest
from tests.edge.outbox.setting import prediction

from forwardpass.edge.outbox.entry import Kind, Needs
from forwardpass.edge.outbox.privacy import MOST_BODY, Level, Privacy, encode, usefulness

SURE, UNSURE = 0.95, 0.4


@pytest.mark.parametrize(
    ("level", "confidence", "kinds"),
    [
        (Level.NOTHING, UNSURE, []),
        (Level.OUTPUTS, UNSURE, [Kind.RECORD]),
        (Level.UNSURE, SURE, [Kind.RECORD]),
        (Level.UNSURE, None, [Kind.RECORD]),
        (Level.UNSURE, UNSURE, [Kind.RECORD, Kind.SAMPLE]),
        (Level.ALL, SURE, [Kind.RECORD, Kind.SAMPLE]),
    ],
)
def test_what_is_put_of_a_prediction(level: Level, confidence: float | None, kinds: list[Kind]) -> None:
    made = Privacy(level).entries(prediction(confidence=confidence))
    assert [kind for kind, *_ in made] == kinds


@pytest.mark.parametrize("level", [Level.NOTHING, Level.OUTPUTS])
@pytest.mark.parametrize("provisional", [False, True])
@pytest.mark.parametrize("error", [None, "input speed: 'input' is no number"])
@pytest.mark.parametrize("confidence", [None, SURE, UNSURE])
def test_no_input_leaves_unless_it_is_allowed(
    level: Level, provisional: bool, error: str | None, confidence: float | None
) -> None:
    """Not in the text of an error either, which may quote it."""
    one = prediction(confidence=confidence, provisional=provisional, error=error)
    for _, body, _, needs in Privacy(level).entries(one):
        assert b"input" not in body
        assert needs is Needs.OUTPUTS


def test_the_inputs_of_sure_rows_stay_at_unsure() -> None:
    bodies = [body for _, body, _, _ in Privacy(Level.UNSURE).entries(prediction(confidence=SURE, error="of input"))]
    assert not any(b"input" in body for body in bodies)


def test_a_record_and_a_sample() -> None:
    (_, record, _, _), (_, sample, useful, needs) = Privacy(Level.ALL).entries(prediction(rows=2, confidence=0.9))
    expected = {
        "id": "prediction-1",
        "source": "mqtt:motors/7",
        "model": "motor",
        "version": "3",
        "rows": 2,
        "answers": [{"state": "healthy"}] * 2,
        "confidence": 0.9,
        "provisional": False,
        "failed": False,
        "seconds": 0.25,
    }
    assert orjson.loads(record) == expected
    assert orjson.loads(sample) == expected | {"error": None, "instances": [{"speed": 1.5, "secret": "input"}] * 2}
    assert useful == pytest.approx(0.1)
    assert needs is Needs.ALL


def test_a_record_that_is_too_large_keeps_its_facts() -> None:
    (_, record, _, _), *_ = Privacy().entries(prediction(answers=["x" * MOST_BODY]))
    assert orjson.loads(record)["answers"] is None
    assert orjson.loads(record)["id"] == "prediction-1"


def test_samples_are_more_useful_the_less_sure_the_model_was() -> None:
    ordered = [
        prediction(confidence=None),
        prediction(confidence=0.99),
        prediction(confidence=0.5),
        prediction(provisional=True),
        prediction(error="failed"),
    ]
    values = [usefulness(one) for one in ordered]
    assert all(before < after for before, after in itertools.pairwise(values))
    assert all(0.0 <= value <= 1.0 for value in values)


@pytest.mark.parametrize(
    ("level", "usage", "expected"),
    [
        (Level.NOTHING, None, False),
        (Level.NOTHING, True, True),
        (Level.OUTPUTS, None, True),
        (Level.ALL, False, False),
    ],
)
def test_whether_usage_may_leave(level: Level, usage: bool | None, expected: bool) -> None:
    assert (Needs.USAGE in Privacy(level, usage).allowed) is expected


def test_rows_may_be_escalated_only_where_unsure_inputs_may_leave() -> None:
    assert [Privacy(level).escalations for level in Level] == [False, False, True, True]


def test_a_threshold_of_ones_own() -> None:
    assert Privacy(Level.UNSURE, unsure_below=0.3).unsure(prediction(confidence=UNSURE)) is False
    assert Privacy(Level.UNSURE, unsure_below=0.3).unsure(prediction(confidence=SURE, provisional=True)) is True


def test_bytes_arrays_and_what_json_has_no_word_for() -> None:
    body = {"image": b"\x00\xff", "array": np.arange(3), "objects": np.array(["a", None], object), "nan": math.nan}
    assert orjson.loads(encode(body)) == {
        "image": {"b64": "AP8="}, "array": [0, 1, 2], "objects": ["a", None], "nan": None
    }  # fmt: skip
    with pytest.raises(TypeError):
        encode({"set": {1, 2}})
