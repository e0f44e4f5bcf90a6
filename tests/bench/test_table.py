"""Statistics, verdicts and the writing of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bench.load import Load, LoadFailed
from bench.results import Results, Summary
from bench.table import MARKER, Row

from bench import networks, table, tiny


def measured(rate: float, p50: float = 0.001, p99: float = 0.002, cpu: float = 1.0) -> Load:
    return Load(round(rate * 10), 10.0, p50, p99, client_cpu=5.0, server_cpu=cpu)


def results(**rates: list[float]) -> Results:
    return Results({name: [measured(rate) for rate in values] for name, values in rates.items()})


def fail() -> Load:
    raise LoadFailed("3 of 100 requests failed")


def test_ratio_is_taken_round_by_round() -> None:
    # the machine was half as fast in the second round; a ratio of medians would be the same, of means not
    ratio = results(ours=[100, 50, 120], other=[50, 25, 40]).ratio(("ours", "rate"), ("other", "rate"))
    assert (ratio.median, ratio.low, ratio.high) == (2, 2, 3)


def test_spread_is_relative_to_the_median() -> None:
    assert Summary.of([90.0, 100.0, 120.0]).spread == pytest.approx(0.3)


def test_one_failure_fails_the_name_for_good() -> None:
    found = results(ours=[100])
    found.attempt("ours", fail)
    found.attempt("ours", lambda: measured(1))
    assert found.why_not("ours") == "ours: 3 of 100 requests failed"
    assert "ours" not in found.loads


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"),
    [(2.0, True, "pass"), (1.99, True, "**missed**"), (2.0, False, "pass"), (2.01, False, "**missed**")],
)
def test_verdict(value: float, at_least: bool, verdict: str) -> None:
    assert Row("m", Summary.of([value]), "x", 2.0, at_least).verdict == verdict


def test_tiny_rows_compare_what_the_targets_name() -> None:
    loads = {
        tiny.OURS_JSON: [measured(60_000, cpu=6)],
        tiny.OURS_BINARY: [measured(90_000)],
        tiny.PLAIN: [measured(3_000)],
        tiny.NGINX_JSON: [measured(200_000, cpu=10)],
        tiny.NGINX_BINARY: [measured(180_000)],
        tiny.OURS_JSON + tiny.ONE: [measured(10_000, p50=0.0001, p99=0.0004)],
        tiny.NGINX_JSON + tiny.ONE: [measured(20_000, p50=0.00005)],
    }
    rows = tiny.rows(Results(loads))
    assert [row.value and round(row.value.median, 6) for row in rows] == [20, 0.3, 0.5, 2, 4]
    assert [row.verdict for row in rows] == ["pass"] * 4 + ["**missed**"]
    assert rows[1].note == "by server CPU per request: 0.5"


def test_tiny_rows_say_what_is_missing() -> None:
    found = Results(failed={tiny.NGINX_JSON: "nginx is not installed"})
    found.loads[tiny.OURS_JSON] = [measured(60_000)]
    rows = tiny.rows(found)
    assert {row.verdict for row in rows} == {"**not measured**"}
    assert rows[1].note == f"{tiny.NGINX_JSON}: nginx is not installed"


def test_best_batch_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.bench import Bench, Cores, Plan

    rates: dict[int, float] = {1: 10, 2: 30, 4: 50, 8: 40}
    answer: Callable[..., Load] = lambda _processes, batch, _seconds: measured(rates.get(batch, 1))  # noqa: E731
    monkeypatch.setattr(networks, "raw_load", answer)
    assert networks.best_batch(Bench(Path(), Plan(), Cores.choose()), None) == 4  # type: ignore[arg-type]


def test_write_keeps_the_pages_own_words(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Benchmarks\n\nHow.\n\n{MARKER}\n\nold figures\n")
    rows = [Row("speed | of it", Summary.of([1, 2, 3]), "x", 2, True, note="a | b")]
    found = results(ours=[1000, 1100, 900])
    found.fail("other", "no | such\nserver")
    table.write(page, table.render({"date": "today"}, rows, found, ["a note"]))
    text = page.read_text()
    assert text.startswith(f"# Benchmarks\n\nHow.\n\n{MARKER}\n\n## The machine\n\n- date: today\n")
    assert "| at least 2 x | 2 (1 to 3) | pass | a / b |" in text
    assert "| ours | 1,000 | 20% | 1 | 2 | 100 µs | 0.10 | 0.50 |" in text
    assert "| other | no / such server |" in text
    assert "old figures" not in text
    table.write(page, "new")
    assert page.read_text().endswith(f"{MARKER}\n\nnew")


def test_write_refuses_a_page_with_no_place_for_results(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n")
    with pytest.raises(ValueError, match="no line"):
        table.write(page, "x")


def test_the_page_has_its_place_for_results() -> None:
    assert MARKER in (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
