"""Counters and histograms from records, and what Prometheus reads of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from forwardpass.monitoring import Metrics
from forwardpass.monitoring.metrics import ROWS, SECONDS, Gauge, Histogram
from forwardpass.types import Outcome, Record

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
MODEL = {"model": "digits", "version": "2"}


def record(outcome: Outcome = Outcome.OK, rows: int = 1, batch_rows: int = 4, door: str = "http") -> Record:
    return Record(
        "id", "digits", "2", door, outcome, 1_000.0, rows, 10, 20, 0.01, 0.001, 0.002, 0.003, 0.004, 0.005, batch_rows
    )


def scraped(metrics: Metrics) -> Samples:
    """Every sample by name and labels, as Prometheus' own parser reads them."""
    samples: Samples = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, "no sample stands there twice"
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"forwardpass_{name}", frozenset({**MODEL, **labels}.items())]


def test_requests_are_counted_by_door_and_outcome() -> None:
    metrics = Metrics()
    metrics.write([record(), record(rows=3)])
    metrics.write([record(Outcome.INVALID_INPUT), record(door="grpc")])
    metrics.write([record(Outcome.OVERLOADED, batch_rows=0)])
    samples = scraped(metrics)
    assert value(samples, "requests_total", door="http", outcome="ok") == 2
    assert value(samples, "requests_total", door="grpc", outcome="ok") == 1
    assert value(samples, "requests_total", door="http", outcome="invalid_input") == 1
    assert value(samples, "requests_total", door="http", outcome="overloaded") == 1
    assert value(samples, "rows_total") == 5
    assert value(samples, "request_bytes_total") == 50
    assert value(samples, "response_bytes_total") == 100
    assert value(samples, "compute_seconds_total") == pytest.approx(0.015)


def test_stage_times_are_observed_once_per_batch_and_totals_once_per_answer() -> None:
    metrics = Metrics()
    metrics.write([record(), record(), record()])
    metrics.write([record(Outcome.TIMED_OUT, batch_rows=0)])
    samples = scraped(metrics)
    assert value(samples, "request_seconds_count") == 3
    assert value(samples, "request_seconds_sum") == pytest.approx(0.03)
    assert value(samples, "queue_seconds_sum") == pytest.approx(0.003)
    for stage, seconds in (("preprocess", 0.002), ("forward", 0.003), ("postprocess", 0.004)):
        assert value(samples, f"{stage}_seconds_count") == 1
        assert value(samples, f"{stage}_seconds_sum") == pytest.approx(seconds)
    assert value(samples, "batch_rows_count") == 1
    assert value(samples, "batch_rows_bucket", le="2.0") == 0
    assert value(samples, "batch_rows_bucket", le="4.0") == 1


def test_statistics_of_the_protocol() -> None:
    metrics = Metrics()
    metrics.write([record(), record(Outcome.BACKEND_FAILED)])
    metrics.write([record(batch_rows=8)])
    stats = metrics.stats("digits", "2")
    assert (stats.count(ok=True), stats.count(ok=False)) == (2, 1)
    assert stats.batches == {4: 1, 8: 1}
    assert stats.failed_seconds == pytest.approx(0.01)
    assert stats.last_at == 1_000.0


def test_gauges_are_asked_at_each_scrape() -> None:
    metrics = Metrics()
    waiting = iter([3.0, 5.0])
    metrics.gauges = lambda: [
        Gauge("queue_rows", "Rows that wait", MODEL, next(waiting)),
        Gauge("batches_by_reason", "Why", {**MODEL, "reason": "idle"}, 1.0),
        Gauge("batches_by_reason", "Why", {**MODEL, "reason": "full"}, 2.0),
    ]
    assert value(scraped(metrics), "queue_rows") == 3
    samples = scraped(metrics)
    assert value(samples, "queue_rows") == 5
    assert value(samples, "batches_by_reason", reason="full") == 2


def test_nothing_yet() -> None:
    metrics = Metrics()
    metrics.write([])
    assert metrics.models == {}
    assert any(name.startswith("process_") for name, _ in scraped(metrics))


@pytest.mark.parametrize("bounds", [SECONDS, ROWS])
def test_a_value_on_a_bound_belongs_below_it(bounds: tuple[float, ...]) -> None:
    histogram = Histogram.of(bounds)
    for bound in bounds:
        histogram.observe(bound)
    assert histogram.counts == [1] * len(bounds) + [0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 100.0), max_size=50))
def test_every_value_is_in_one_bucket(values: list[float]) -> None:
    histogram = Histogram.of(SECONDS)
    for number in values:
        histogram.observe(number)
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))
    below = 0
    for bound, count in zip(SECONDS, histogram.counts, strict=False):
        below += count
        assert below == sum(number <= bound for number in values)
