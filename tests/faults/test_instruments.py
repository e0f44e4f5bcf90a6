"""What the faults measure with must itself tell right from wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from bench.faults import numbers, report, watch
from bench.faults.__main__ import NAMES, attempt, create_fault
from bench.faults.fault import Trial, unaccounted, unexplained
from bench.faults.figure import Figure
from bench.faults.overload import admitted_p99
from bench.faults.soak import same

from forwardpass.loadtest import Histogram, Result


def test_a_figure_is_judged_by_its_bound() -> None:
    assert Figure("a", 1.0, "", 1.0).passed
    assert not Figure("a", 1.1, "", 1.0).passed
    assert Figure("a", 1.1, "", 1.0, at_least=True).passed
    assert Figure("a", None, "", 1.0).verdict == "not measured"
    assert Figure("a", float("inf"), "ms", 20).shown == "inf ms"


def test_an_answer_with_another_number_is_wrong() -> None:
    body = b'{"model_name":"n","outputs":[{"name":"y","shape":[1,1],"datatype":"FP32","data":[41.0]}]}'
    assert numbers.right(41, 200, {}, body)
    assert not numbers.right(4, 200, {}, body)
    assert not numbers.right(41, 200, {}, b"{}")


def test_answers_are_compared_by_name_text_and_number() -> None:
    right = {"label": np.array(["cat"], object), "score": np.array([0.5, 1.0], np.float32)}
    assert same({"label": np.array([b"cat"], object), "score": np.array([0.5, 1.0])}, right, 0.0)
    assert not same({"label": np.array(["dog"]), "score": right["score"]}, right, 1.0)
    assert not same({"label": right["label"]}, right, 1.0)
    almost = {"label": right["label"], "score": np.array([0.5, 1.00001])}
    assert same(almost, right, 1e-4)
    assert not same(almost, right, 0.0)
    assert not same({"label": right["label"], "score": np.array([0.5, np.nan])}, right, 1e-4)


def test_late_answers_count_into_the_p99_of_the_admitted() -> None:
    result = Result("http", 1.0, 1, latency=Histogram([0.1] * 990 + [0.3] * 10))
    assert admitted_p99(result) == pytest.approx(0.1, rel=0.01)
    result.errors["status 504"] = 5
    assert admitted_p99(result) == pytest.approx(0.3, rel=0.01)
    result.errors["status 504"] = 20
    assert admitted_p99(result) == float("inf")


def test_every_request_must_end_once() -> None:
    result = Result("http", 1.0, 1, sent=3, latency=Histogram([0.1]), left=1)
    assert unaccounted(result) == 1
    result.errors["connection closed"] = 1
    assert (unaccounted(result), unexplained(result)) == (0, 1)
    assert unexplained(result, "connection closed") == 0


def test_a_slope_is_told_from_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 50, 400)
    steady = watch.Series("front", list(range(400)), [int(1000 + value) for value in noise])
    growing = watch.Series("front", list(range(400)), [int(1000 + 3 * at + value) for at, value in enumerate(noise)])
    slope, error = steady.slope()
    assert abs(slope) < 3 * error
    slope, error = growing.slope()
    assert slope == pytest.approx(3, abs=3 * error)
    assert slope > 10 * error
    assert growing.growth() > 1.3 > steady.growth()


def test_this_process_is_seen() -> None:
    assert watch.resident(os.getpid()) > 1e6
    before = watch.open_files(os.getpid())
    with Path(os.devnull).open():
        assert watch.open_files(os.getpid()) == before + 1
    assert watch.parent(os.getpid()) == os.getppid()


def test_a_fault_that_breaks_is_a_figure_and_no_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def breaks(trial: Trial) -> list[Figure]:
        raise OSError("no such port")

    (figure,) = attempt(breaks, Trial(tmp_path))
    assert not figure.passed
    assert "no such port" in figure.note
    assert "Traceback" in capsys.readouterr().err


def test_every_name_is_a_fault() -> None:
    assert all(callable(create_fault(name)) for name in NAMES)


def test_the_page_keeps_its_own_words(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    page.write_text(f"# Own\n\n{report.MARKER}\nold")
    figures = {"kill": [Figure("wrong | right", 1.0, "", 0.0, note="why")]}
    report.write(page, report.tables(figures, {"kill": 3.0}))
    text = page.read_text()
    assert text.startswith("# Own")
    assert "old" not in text
    assert "| at most 0 | 1 | **missed** | why |" in text
    page.write_text("# no marker")
    with pytest.raises(ValueError, match="no line"):
        report.write(page, "")
