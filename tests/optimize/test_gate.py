"""Verdicts from figures alone."""

from __future__ import annotations

from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.gate import Gate, best, ranked
from forwardpass.optimize.metric import METRICS
from forwardpass.optimize.results import Entry, Figures, Gain, gains, middle

GATE = Gate(METRICS["accuracy"], 0.005, "throughput", 2000)
SAME = Interval(0.0, 0.0, 0.0)


def figures(throughput: float = 100.0, p50: float = 0.01, size: int = 1000) -> Figures:
    return Figures(0.5, p50, 0.02, throughput, 8, 0.001, 10, 20, size)


def entry(name: str, gain: float, passed: bool = True) -> Entry:
    return Entry(name, name, passed, "", gains={"throughput": Gain(gain, gain, gain)})


def test_it_is_the_end_of_the_interval_that_must_be_allowed() -> None:
    assert GATE.quality(Interval(0.004, 0.003, 0.005)) == ""
    assert GATE.quality(SAME) == ""
    assert GATE.quality(Interval(-0.02, -0.03, -0.01)) == "", "better than its parent"
    assert (
        GATE.quality(Interval(0.02, 0.01, 0.03)) == "accuracy drops by 2.00 points [1.00 to 3.00], allowed 0.50 points"
    )


def test_where_more_rows_could_tell_it_says_how_many() -> None:
    assert GATE.quality(Interval(0.0, -0.01, 0.01)).endswith(": 2000 held-out rows cannot tell, about 8000 would")


def test_a_drop_that_is_no_number_is_refused() -> None:
    assert "is not a number" in GATE.quality(Interval(None, None, None))
    assert "has no limit" in GATE.quality(Interval(0.0, 0.0, None))


def test_an_error_is_told_in_percent() -> None:
    gate = Gate(METRICS["rmse"], 0.01, "latency", 500)
    assert gate.quality(Interval(0.5, 0.4, 0.6)) == "rmse drops by 50.00 % [40.00 to 60.00], allowed 1.00 %"


def test_a_gain_must_be_more_than_noise() -> None:
    assert GATE.speed(Gain(1.04, 0.9, 1.1)) == ""
    assert GATE.speed(Gain(1.01, 0.99, 1.02)).startswith("no better than the parent in throughput: 1.01 times (0.99 to")
    assert GATE.speed(Gain(0.5, 0.4, 0.6)).startswith("worse than the parent in throughput: 0.50 times (0.40 to 0.60)")


def test_a_gain_is_the_median_of_rounds_and_above_one_where_it_is_better() -> None:
    rounds = [(figures(100, 0.010), figures(ahead, 0.005, 4000)) for ahead in (150, 900, 200)]
    found = gains(rounds)
    assert found["throughput"] == Gain(2.0, 1.5, 9.0)
    assert found["latency"] == Gain(2.0, 2.0, 2.0)
    assert found["size"] == Gain(0.25, 0.25, 0.25)
    assert middle([candidate for _, candidate in rounds]).throughput == 200


def test_the_best_is_the_one_with_the_greatest_gain_of_those_that_passed() -> None:
    entries = [entry("a", 2.0), entry("b", 9.0, passed=False), entry("c", 3.0)]
    assert [one.name for one in ranked(entries, "throughput")] == ["c", "a"]
    assert best(entries[1:2], "throughput") is None
