"""The two halves: together all rows, none twice, each class in both alike, and always the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.optimize.cascade.halves import halves


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=60))
def test_no_row_both_chooses_and_judges(classes: list[str]) -> None:
    texts = np.array(classes, str)
    choosing, judging = halves(texts)
    assert sorted([*choosing.tolist(), *judging.tolist()]) == list(range(len(classes)))
    for name in set(classes):
        assert abs(int((texts[choosing] == name).sum()) - int((texts[judging] == name).sum())) <= 1


def test_they_are_drawn_and_always_the_same() -> None:
    texts = np.array(["a"] * 100)
    first, second = halves(texts), halves(texts)
    assert first[0].tolist() == second[0].tolist()
    assert first[0].tolist() != list(range(0, 100, 2))
