"""The `fraud` example: its card, thresholds, sample, written cases, and rows among neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from examples.training.fraud import FOLDER, ROWS, evaluate, generate, split
from examples.training.model_card import read_card

import forwardpass
from forwardpass.config import read_model_config
from forwardpass.errors import InvalidRows

ORDINARY = {
    "amount": 32.5, "merchant_category": "groceries", "channel": "contactless", "region": "home", "hour": 18,
    "account_age": 1500, "transactions_last_day": 1, "distance_from_home": 3.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Iterator[forwardpass.Engine]:
    engine = forwardpass.load(FOLDER, threads=1)
    yield engine
    engine.close()


def test_the_artifact_is_small() -> None:
    assert (FOLDER / "model.onnx").stat().st_size < 1_000_000


def test_the_data_is_the_same_every_time_and_one_to_two_percent_fraud() -> None:
    (columns, fraud), (again, fraud_again) = generate(), generate()
    assert len(fraud) == ROWS
    assert 0.01 < fraud.mean() < 0.02
    np.testing.assert_array_equal(fraud, fraud_again)
    for name, column in columns.items():
        np.testing.assert_array_equal(column, again[name])


def test_the_card_says_what_a_fresh_evaluation_gives(model: forwardpass.Engine) -> None:
    assert read_card(FOLDER)["metrics"] == pytest.approx(evaluate(model), abs=1e-9)


def test_decisions_follow_the_thresholds_of_the_model_file(model: forwardpass.Engine) -> None:
    [decide] = [step for step in read_model_config(FOLDER).postprocess if step["step"] == "decide"]
    review, block = (np.float32(decide["thresholds"][name]) for name in ("review", "block"))
    answer = model.predict(split()[2])
    probability = answer["fraud_probability"]
    wanted = np.select([probability >= block, probability >= review], ["block", "review"], "approve")
    assert answer["decision"].tolist() == wanted.tolist()
    assert set(wanted.tolist()) == {"approve", "review", "block"}


def test_probabilities_are_calibrated(model: forwardpass.Engine) -> None:
    _, _, columns, fraud = split()
    probability = model.predict(columns)["fraud_probability"]
    assert probability.mean() == pytest.approx(fraud.mean(), rel=0.25)
    sure = probability > 0.6
    assert fraud[sure].mean() == pytest.approx(probability[sure].mean(), abs=0.1)


def test_a_row_alone_agrees_with_the_row_among_neighbours(model: forwardpass.Engine) -> None:
    held_out = {name: column[:300] for name, column in split()[2].items()}
    together = model.predict(held_out)["fraud_probability"]
    one_by_one = [{name: column[row : row + 1] for name, column in held_out.items()} for row in range(300)]
    alone = np.concatenate([model.predict(columns)["fraud_probability"] for columns in one_by_one])
    np.testing.assert_allclose(together, alone, rtol=0, atol=read_card(FOLDER)["tolerance"])


def test_the_sample_has_one_payment_of_each_decision(model: forwardpass.Engine) -> None:
    answers = model.predict(json.loads((FOLDER / "sample.json").read_text())["instances"])
    assert [answer["decision"] for answer in answers] == ["approve", "review", "block"]


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        ({}, "approve"),
        ({"distance_from_home": None}, "approve"),
        (
            {"amount": 60, "merchant_category": "restaurant", "region": "neighbour", "distance_from_home": 700},
            "approve",
        ),
        (
            {"amount": 400, "merchant_category": "electronics", "channel": "online", "region": "overseas", "hour": 1},
            "block",
        ),
        ({"amount": 650, "merchant_category": "gift_cards", "channel": "online", "account_age": 6}, "block"),
    ],
)
def test_written_cases(model: forwardpass.Engine, change: dict[str, Any], decision: str) -> None:
    [answer] = model.predict([{**ORDINARY, **change}])
    assert answer["decision"] == decision


def test_the_distance_may_be_left_out(model: forwardpass.Engine) -> None:
    without = {name: value for name, value in ORDINARY.items() if name != "distance_from_home"}
    assert model.predict([without]) == model.predict([{**ORDINARY, "distance_from_home": None}])


@pytest.mark.parametrize(
    ("name", "value"),
    [("amount", -1), ("hour", 24), ("merchant_category", "grocery"), ("region", ""), ("amount", None)],
)
def test_what_model_yaml_does_not_allow_is_refused_by_name(model: forwardpass.Engine, name: str, value: Any) -> None:
    with pytest.raises(InvalidRows, match=name):
        model.predict([ORDINARY, {**ORDINARY, name: value}])
