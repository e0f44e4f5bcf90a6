"""Every fault in its short form: what must hold on any machine holds; times are the long form's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from bench.faults import cycles, kill, leave, overload, rolling, slow, soak
from bench.faults.fault import Trial
from bench.faults.figure import Figure

pytestmark = pytest.mark.slow


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path, quick=True)


def missed(figures: Sequence[Figure]) -> list[str]:
    """The figures that depend on no clock and are not what they must be."""
    assert any(not figure.timing for figure in figures)
    return [f"{item.what}: {item.shown} {item.note}" for item in figures if not (item.timing or item.passed)]


def value(figures: Sequence[Figure], what: str) -> float:
    found = next(figure.value for figure in figures if what in figure.what)
    assert found is not None
    return found


def test_overload_refuses_at_once_and_answers_whom_it_admits(trial: Trial) -> None:
    figures = overload.measure(trial)
    assert not missed(figures)
    assert value(figures, "goodput") > 0.3
    assert value(figures, "slowest refusal") < 1000


def test_killed_workers_cost_no_answer(trial: Trial) -> None:
    assert not missed(kill.measure(trial))


def test_nothing_runs_for_clients_that_left(trial: Trial) -> None:
    figures = leave.measure(trial)
    assert not missed(figures)
    assert value(figures, "rows run") >= 1


def test_loading_and_unloading_leaves_nothing_behind(trial: Trial) -> None:
    assert not missed(cycles.measure(trial))


def test_rolling_restarts_fail_no_request(trial: Trial) -> None:
    assert not missed(rolling.measure(trial))


def test_slow_connections_are_closed_and_harm_nobody(trial: Trial) -> None:
    figures = slow.measure(trial)
    assert not missed(figures)
    assert value(figures, "rate of the others") > 0.3


def test_all_doors_agree_with_the_local_engine(trial: Trial) -> None:
    assert not missed(soak.measure(trial))
