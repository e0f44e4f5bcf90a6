"""The `recommend` example: its data, card, sample, what it never shows, and rows among neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from examples.training.model_card import read_card
from examples.training.recommend import FOLDER, SHOWN, evaluate, popular_items, split
from examples.training.recommend_data import ITEMS, NOTHING, PLACES, Interactions, generate, histories

import forwardpass
from forwardpass.errors import InvalidInput


@pytest.fixture(scope="module")
def model() -> Iterator[forwardpass.Engine]:
    engine = forwardpass.load(FOLDER, threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def before() -> Interactions:
    return split()[0]


def test_the_artifact_is_small() -> None:
    assert (FOLDER / "model.onnx").stat().st_size < 300_000


def test_the_data_is_the_same_every_time_and_nobody_takes_an_item_twice() -> None:
    first, again = generate(500), generate(500)
    for name in ("user", "item", "day"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert len(np.unique(first.user * ITEMS + first.item)) == len(first.user)
    assert (np.diff(first.user * 100 + first.day) >= 0).all()  # by user, and in each by time


def test_a_history_is_the_newest_items_first() -> None:
    users = np.repeat([0, 2], [2, PLACES + 1])
    items = np.array([5, 9, *range(100, 100 + PLACES + 1)])
    table = histories(Interactions(3, users, items, np.ones_like(items)))
    assert table[0].tolist() == [9, 5] + [NOTHING] * (PLACES - 2)
    assert (table[1] == NOTHING).all()
    assert table[2].tolist() == list(range(100 + PLACES, 100, -1))


def test_the_card_says_what_a_fresh_evaluation_gives(model: forwardpass.Engine) -> None:
    card, fresh = read_card(FOLDER)["metrics"], evaluate(model)
    # a user is 0.0001: a few may fall on the other side where another processor rounds near ties
    assert card == pytest.approx(fresh, abs=1e-3)
    assert card["hit_rate_at_10"] - card["hit_rate_at_10_ci95"] > 2 * card["hit_rate_popular_at_10"]


def test_it_never_shows_what_was_seen_nor_anything_twice(model: forwardpass.Engine, before: Interactions) -> None:
    given = histories(before)[:2000]
    items = model.predict({"history": given})["items"]
    assert items.shape == (len(given), SHOWN)
    assert items.min() >= 0
    assert items.max() < ITEMS
    assert not (items[:, :, None] == given[:, None, :]).any()
    assert all(len(set(row)) == SHOWN for row in items.tolist())


def test_best_first(model: forwardpass.Engine, before: Interactions) -> None:
    scores = model.predict({"history": histories(before)[:100]})["scores"]
    assert np.isfinite(scores).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_who_has_no_history_is_shown_the_most_popular(model: forwardpass.Engine, before: Interactions) -> None:
    nobody = np.full((1, PLACES), NOTHING)
    counts = np.bincount(before.item, minlength=ITEMS)
    shown = model.predict({"history": nobody})["items"]
    assert counts[shown].tolist() == counts[popular_items(before, nobody)].tolist()
    assert counts[shown[0, -1]] == np.sort(counts)[-SHOWN]


def test_the_newer_item_says_more(model: forwardpass.Engine, before: Interactions) -> None:
    there = histories(before)
    given = there[(there != NOTHING).all(axis=1)][:200]
    shown = model.predict({"history": given})["items"]
    turned = model.predict({"history": given[:, ::-1].copy()})["items"]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(shown.tolist(), turned.tolist(), strict=True)]) < 0.8 * SHOWN


def test_a_row_alone_agrees_with_the_row_among_neighbours(model: forwardpass.Engine, before: Interactions) -> None:
    given = histories(before)[:300]
    together = model.predict({"history": given})["scores"]
    alone = np.concatenate([model.predict({"history": row[None]})["scores"] for row in given])
    np.testing.assert_allclose(together, alone, rtol=0, atol=read_card(FOLDER)["tolerance"])


def test_the_sample_is_a_full_a_short_and_an_empty_history(model: forwardpass.Engine) -> None:
    instances = json.loads((FOLDER / "sample.json").read_text())["instances"]
    assert [sum(item != NOTHING for item in row["history"]) for row in instances] == [PLACES, 6, 0]
    assert [len(answer["items"]) for answer in model.predict(instances)] == [SHOWN] * 3


@pytest.mark.parametrize("item", [-2, ITEMS, 3.5])
def test_what_is_no_item_is_refused_by_name(model: forwardpass.Engine, item: float) -> None:
    with pytest.raises(InvalidInput, match="history"):
        model.predict([{"history": [item] + [NOTHING] * (PLACES - 1)}])
