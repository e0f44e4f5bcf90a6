"""Made-up interactions for `recommend`: who took which item on which day; no real person is in them.

Items lie in categories and differ in popularity. A user has two favourite categories at a time, and
now and then a new one in place of an old. Nobody takes an item twice. The same seed and number of
users give the same interactions; the catalogue is the same for any number of users. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

USERS, ITEMS, CATEGORIES, DAYS = 20_000, 2_000, 40, 30
PLACES = 30  # of a history: the newest interactions, as many as the model looks at
NOTHING = -1  # a place that is not taken
FAVOURITE, CHANGE = 0.75, 0.05  # shares: items out of a favourite category, steps at which a favourite changes
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Interactions:
    """One entry per interaction, each user's in order of time: ``user``, ``item`` and ``day`` (1 to ``DAYS``)."""

    users: int
    user: Integers
    item: Integers
    day: Integers

    def where(self, chosen: NDArray[np.bool_]) -> Interactions:
        return Interactions(self.users, self.user[chosen], self.item[chosen], self.day[chosen])


def generate(users: int = USERS, seed: int = 7) -> Interactions:
    """The interactions of all users, 17 each in the median."""
    random = np.random.default_rng(seed)
    category_shares, item_shares = _catalogue()
    count = np.clip(np.round(random.lognormal(np.log(22), 0.6, users)), 3, 80).astype(np.int64)
    favourites = random.choice(CATEGORIES, (users, 2), p=category_shares)
    everyone = np.arange(users)
    taken = np.empty((users, int(count.max(initial=0))), np.int64)
    for step in range(taken.shape[1]):
        changed = random.random(users) < CHANGE
        new = random.choice(CATEGORIES, users, p=category_shares)
        favourites[everyone[changed], random.integers(2, size=users)[changed]] = new[changed]
        favourite = favourites[everyone, random.integers(2, size=users)]
        source = np.where(random.random(users) < FAVOURITE, favourite, CATEGORIES)
        taken[:, step] = _draw(item_shares, source, random)
    user, place = np.nonzero(np.arange(taken.shape[1]) < count[:, None])
    item = taken[user, place]
    first = np.sort(np.unique(user * ITEMS + item, return_index=True)[1])
    day = random.integers(1, DAYS + 1, len(first))
    return Interactions(users, user[first], item[first], day[np.lexsort((day, user[first]))])


def _catalogue() -> tuple[NDArray[Any], NDArray[Any]]:
    """Shares of the categories, and cumulated shares of all items in each category and, last, overall."""
    random = np.random.default_rng(40)
    category = random.integers(CATEGORIES, size=ITEMS)
    popularity = (1.0 + random.permutation(ITEMS)) ** -0.8
    within = np.where(category == np.arange(CATEGORIES)[:, None], popularity, 0)
    cumulated = np.cumsum(np.vstack([within, popularity]), axis=1)
    return within.sum(axis=1) / popularity.sum(), cumulated / cumulated[:, -1:]


def _draw(item_shares: NDArray[Any], source: Integers, random: np.random.Generator) -> Integers:
    """An item out of each of the named rows of ``item_shares``."""
    chance = random.random(len(source))
    items = np.empty(len(source), np.int64)
    for row, shares in enumerate(item_shares):
        here = source == row
        items[here] = np.searchsorted(shares, chance[here], side="right")
    return np.minimum(items, ITEMS - 1)


def histories(interactions: Interactions) -> Integers:
    """Each user's newest items, the newest first, ``NOTHING`` behind them. Shape: [users, PLACES]."""
    everyone = np.arange(interactions.users)
    start = np.searchsorted(interactions.user, everyone, side="left")
    stop = np.searchsorted(interactions.user, everyone, side="right")
    table = np.full((interactions.users, PLACES), NOTHING, np.int64)
    for place in range(PLACES):
        at = stop - 1 - place
        there = at >= start
        table[there, place] = interactions.item[at[there]]
    return table
