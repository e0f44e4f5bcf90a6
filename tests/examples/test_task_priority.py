"""The `task-priority` example: its data, card, sample, written cases, and rows among neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from examples.training.model_card import read_card
from examples.training.task_priority import FOLDER, LABELS, evaluate, read_items

import forwardpass
from forwardpass.errors import InvalidInput


@pytest.fixture(scope="module")
def model() -> Iterator[forwardpass.Engine]:
    engine = forwardpass.load(FOLDER, threads=1)
    yield engine
    engine.close()


def words(text: str) -> frozenset[str]:
    return frozenset("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def test_the_data_is_large_and_balanced_and_its_splits_share_no_item() -> None:
    (train, train_labels), (held_out, held_out_labels) = read_items("train"), read_items("test")
    assert len(train) + len(held_out) > 600
    assert len(held_out) > 150
    for label in LABELS:
        assert min(train_labels.count(label) / len(train), held_out_labels.count(label) / len(held_out)) > 0.3
    everything = [words(text) for text in train + held_out]
    assert len(set(everything)) == len(everything)


def test_the_card_says_what_a_fresh_evaluation_gives(model: forwardpass.Engine) -> None:
    fresh = evaluate(model)
    card = read_card(FOLDER)
    assert card["metrics"] == pytest.approx(fresh, abs=1e-3)
    assert card["metrics"]["accuracy"] == fresh["accuracy"]


def test_it_is_right_for_three_of_four_held_out_items(model: forwardpass.Engine) -> None:
    texts, truth = read_items("test")
    answers = model.predict(texts)
    assert np.mean([answer["label"] == wanted for answer, wanted in zip(answers, truth, strict=True)]) > 0.75


def test_a_row_alone_agrees_with_the_row_among_neighbours(model: forwardpass.Engine) -> None:
    texts, _ = read_items("test")
    texts += ["Buy milk", "review the draft " * 50]  # neighbours far shorter and longer
    together = model.predict({"text": texts})["probabilities"]
    alone = np.concatenate([model.predict({"text": [text]})["probabilities"] for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=read_card(FOLDER)["tolerance"])


def test_the_sample_has_one_item_of_each_priority(model: forwardpass.Engine) -> None:
    answers = model.predict(json.loads((FOLDER / "sample.json").read_text())["instances"])
    assert [answer["label"] for answer in answers] == ["Medium", "High", "Low"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Send contract to client by 5 pm today", "High"),
        ("asap: call the bank about the stolen card", "High"),
        ("Server room is on fire", "High"),
        ("Book dentist appointment", "Medium"),
        ("Submit expense report by Friday", "Medium"),
        ("Write the report, not urgent", "Low"),
        ("fix typo in footer whenever you have time", "Low"),
        ("Learn to play the guitar maybe", "Low"),
    ],
)
def test_written_cases(model: forwardpass.Engine, text: str, label: str) -> None:
    [answer] = model.predict([text])
    assert answer["label"] == label
    assert answer["probability"] == max(answer["probabilities"])
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert LABELS[int(np.argmax(answer["probabilities"]))] == label


def test_words_of_urgency_turn_the_answer(model: forwardpass.Engine) -> None:
    item = "Order new chairs"
    labels = [answer["label"] for answer in model.predict([f"{item}, asap, due today", f"{item}, no rush, whenever"])]
    assert labels == ["High", "Low"]


def test_case_and_white_space_do_not_matter(model: forwardpass.Engine) -> None:
    one, other = model.predict(["Prepare quarterly report", "  PREPARE  quarterly\nreport "])
    assert one == other


def test_an_empty_text_is_refused(model: forwardpass.Engine) -> None:
    with pytest.raises(InvalidInput, match="text"):
        model.predict([""])
