"""The line that predicts the seconds of a batch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.scheduler.cost import CONFIDENT, CostModel


def taught(*batches: tuple[int, float]) -> CostModel:
    model = CostModel()
    for rows, seconds in batches:
        model.learn(rows, seconds)
    return model


def test_it_learns_a_line() -> None:
    model = taught(*[(rows, 0.005 + 0.001 * rows) for rows in (1, 8, 32, 4, 16, 2)])
    assert model.per_row == pytest.approx(0.001)
    assert model.start == pytest.approx(0.005)
    assert model.seconds(100) == pytest.approx(0.105)
    assert model.rows_within(0.015, 32) in (9, 10)


def test_it_predicts_nothing_before_it_has_seen_a_few() -> None:
    model = taught(*[(8, 1.0)] * (CONFIDENT - 1))
    assert model.seconds(8) == 0.0
    assert model.rows_within(0.001, 32) == 32


def test_it_follows_a_change() -> None:
    model = taught(*[(rows, 0.001 * rows) for rows in (1, 2, 4, 8) * 30])
    for rows in (1, 2, 4, 8) * 75:
        model.learn(rows, 0.01 * rows)
    assert model.per_row == pytest.approx(0.01, rel=0.1)


def test_batches_of_one_size_count_by_row() -> None:
    model = taught(*[(4, 0.2)] * 10)
    assert model.seconds(4) == pytest.approx(0.2)
    assert model.seconds(8) == pytest.approx(0.4)
    assert model.rows_within(0.5, 32) in (9, 10)


def test_a_row_longer_than_the_limit_still_runs_alone() -> None:
    assert taught(*[(1, 2.0), (2, 4.0)] * 5).rows_within(0.1, 32) == 1


def test_slow_batches_of_one_size_do_not_keep_batches_small() -> None:
    model = taught(*[(1, 0.091)] * 50)
    for _ in range(4):
        rows = model.rows_within(0.1, 32)
        model.learn(rows, 0.09 + 0.001 * rows)
    assert model.rows_within(0.1, 32) > 8


def test_a_start_over_the_limit_does_not_make_batches_small() -> None:
    model = taught(*[(rows, 0.2 + 0.001 * rows) for rows in (1, 2, 4, 8)])
    assert model.rows_within(0.1, 32) == 32
    assert model.rows_within(0.1, 1000) in (199, 200)


def test_a_constant_time_puts_no_limit_on_rows() -> None:
    model = taught(*[(rows, 0.05) for rows in (1, 2, 4, 8)])
    assert model.per_row == pytest.approx(0.0, abs=1e-12)
    assert model.rows_within(0.1, 32) == 32


@pytest.mark.parametrize("batches", [[(0, 0.1)] * 5, [(0, 0.0)] * 5, [(0, 0.1), (4, 0.2), (0, 0.1), (4, 0.2)]])
def test_batches_without_rows_do_no_harm(batches: list[tuple[int, float]]) -> None:
    model = taught(*batches)
    assert model.seconds(4) >= 0.0
    assert 1 <= model.rows_within(0.15, 32) <= 32


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 512), st.floats(0.0, 30.0)), max_size=40),
    st.lists(st.floats(0.0, 10.0), min_size=2, max_size=6),
    st.integers(1, 256),
)
def test_more_time_never_means_fewer_rows(batches: list[tuple[int, float]], budgets: list[float], most: int) -> None:
    model = taught(*batches)
    rows = [model.rows_within(seconds, most) for seconds in sorted(budgets)]
    assert rows == sorted(rows)
    assert all(1 <= count <= most for count in rows)
    assert model.seconds(0) <= model.seconds(1) <= model.seconds(most)
    assert model.seconds(0) >= 0.0
