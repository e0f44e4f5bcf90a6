"""The estimate of how often sure answers are wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest

from forwardpass.gateway.audit import MOST_WAITING, Audit, wilson


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_is_wilsons(hits: int, tries: int, low: float, high: float) -> None:
    """The last is Newcombe's example (1998)."""
    assert wilson(hits, tries) == pytest.approx((low, high), abs=5e-5)


def test_the_share_is_drawn_at_random() -> None:
    audit = Audit(0.25, random.Random(1))
    drawn = [len(audit.draw(np.arange(40))) for _ in range(200)]
    assert sum(drawn) == pytest.approx(2000, abs=150)
    assert len(set(drawn)) > 3
    assert not len(Audit(0.0, random.Random(1)).draw(np.arange(40)))


def test_what_is_drawn_beyond_what_may_wait_is_counted() -> None:
    audit = Audit(1.0, random.Random(1))
    audit.waiting = MOST_WAITING - 3
    assert audit.draw(np.arange(10)).tolist() == [0, 1, 2]
    assert audit.skipped == 7


def test_answers_add_up() -> None:
    audit = Audit(1.0, random.Random(1))
    assert audit.statistics()["disagreement"] is None
    audit.heard(np.array([True, False]))
    audit.heard(np.array([False] * 8))
    told = audit.statistics()
    assert (told["asked"], told["differed"], told["disagreement"]) == (10, 1, 0.1)
    assert told["interval"][0] < 0.1 < told["interval"][1]
