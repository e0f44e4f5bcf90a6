"""The `breast-cancer` example: a bare artifact, its card, its sample, and rows among neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from examples.training.breast_cancer import FOLDER, evaluate, split
from examples.training.model_card import read_card

import forwardpass


@pytest.fixture(scope="module")
def model() -> Iterator[forwardpass.Engine]:
    engine = forwardpass.load(FOLDER, threads=1)
    yield engine
    engine.close()


def test_it_is_a_bare_artifact_that_explains_itself(model: forwardpass.Engine) -> None:
    assert not (FOLDER / "model.yaml").exists()
    assert model.signature.batched
    [features] = model.signature.inputs
    assert (features.name, features.tensor.shape) == ("features", (None, 30))
    assert {spec.name: spec.shape for spec in model.signature.outputs} == {"label": (None,), "probabilities": (None, 2)}


def test_the_card_says_what_a_fresh_evaluation_gives(model: forwardpass.Engine) -> None:
    assert read_card(FOLDER)["metrics"] == evaluate(model)


def test_the_held_out_rows_are_not_among_the_training_rows() -> None:
    train, held_out, _, _ = split()
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in held_out}


def test_it_is_right_for_most_held_out_rows(model: forwardpass.Engine) -> None:
    _, features, _, labels = split()
    assert (model.predict({"features": features})["label"] == labels).mean() > 0.95


def test_a_row_alone_agrees_with_the_row_among_neighbours(model: forwardpass.Engine) -> None:
    _, features, _, _ = split()
    together = model.predict({"features": features})["probabilities"]
    alone = np.concatenate([model.predict({"features": row[None]})["probabilities"] for row in features])
    np.testing.assert_allclose(together, alone, rtol=0, atol=read_card(FOLDER)["tolerance"])


def test_the_sample_has_one_malignant_and_one_benign_case(model: forwardpass.Engine) -> None:
    answers = model.predict(json.loads((FOLDER / "sample.json").read_text())["instances"])
    assert [answer["label"] for answer in answers] == [0, 1]
