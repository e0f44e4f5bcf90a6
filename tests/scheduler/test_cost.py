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


def test_it_learns_what_padding_costs() -> None:
    model = CostModel()
    for rows in (1, 2, 4, 8):
        for length in (10, 40, 160):
            model.learn(rows, 0.002 + 0.0001 * rows + 0.00005 * rows * length, length)
    assert model.start == pytest.approx(0.002)
    assert model.per_row == pytest.approx(0.0001)
    assert model.per_padded == pytest.approx(0.00005)
    assert model.seconds(4, 100) == pytest.approx(0.0224)
    assert model.rows_within(0.0224, 32, 100) in (3, 4)


def test_rows_are_worth_running_together_where_the_start_is_shared() -> None:
    shared = taught(*[(rows, 0.004 + 0.001 * rows) for rows in (1, 2, 4, 8)])
    assert shared.pays(1, 0, 1, 0)
    assert shared.most_worth() == pytest.approx(36.9)
    alone = taught(*[(rows, 0.0015 + 0.025 * rows) for rows in (1, 2, 4, 8)])  # a twentieth is saved
    assert not alone.pays(1, 0, 1, 0)
    assert alone.most_worth() < 1.0


def test_rows_of_unlike_length_are_not_worth_running_together() -> None:
    model = CostModel()
    for rows in (1, 2, 4):
        for length in (10, 100):
            model.learn(rows, 0.002 + 0.00005 * rows * length, length)
    assert model.pays(1, 20, 1, 20)
    assert model.pays(1, 20, 1, 30)
    assert not model.pays(1, 20, 1, 200)  # the short one would be padded to 200, for 9 ms
    assert not model.pays(1, 200, 1, 20)
    assert not model.pays(8, 40, 1, 60)  # eight would be padded for the sake of one


def test_nothing_is_ruled_out_before_several_sizes_are_known() -> None:
    model = taught(*[(1, 0.02)] * 50)
    assert model.pays(1, 0, 1, 0)
    assert model.most_worth() == float("inf")


def test_one_pause_of_the_machine_is_not_a_cost() -> None:
    model = taught(*[(rows, 0.001 * rows) for rows in (1, 2, 4, 8) * 20])
    model.learn(4, 2.0)
    for rows in (1, 2, 4, 8) * 16:
        model.learn(rows, 0.001 * rows)
    assert model.seconds(4) == pytest.approx(0.004, rel=0.1)


def test_single_rows_by_the_thousand_do_not_outweigh_what_larger_batches_took() -> None:
    model = taught(*[(rows, 0.002 + 0.001 * rows) for rows in (1, 2, 4, 8)], *[(1, 0.003)] * 5000)
    assert model.start == pytest.approx(0.002, rel=0.01)
    assert [(cost.rows, cost.batches) for cost in model.costs()] == [(1, 5001), (2, 1), (4, 1), (8, 1)]


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


def test_long_batches_of_one_size_do_not_keep_batches_large() -> None:
    model = CostModel()
    for _ in range(20):
        model.learn(32, 0.8, 500)
    assert model.rows_within(0.05, 32, 500) in (1, 2)
    model.learn(2, 0.05, 500)
    assert model.known


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
