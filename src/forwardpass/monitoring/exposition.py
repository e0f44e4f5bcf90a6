"""Metrics in Prometheus' text format. Imported at the first scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from forwardpass.monitoring.metrics import Gauge, Histogram, Metrics

_MODEL = ("model", "version")
_HISTOGRAMS = {
    "total": ("request_seconds", "Time from a request's arrival to its answer"),
    "queue": ("queue_seconds", "Time that requests waited for a replica"),
    "preprocess": ("preprocess_seconds", "Time of preprocessing, per batch"),
    "forward": ("forward_seconds", "Time of the forward pass, per batch"),
    "postprocess": ("postprocess_seconds", "Time of postprocessing, per batch"),
    "batch_rows": ("batch_rows", "Rows that ran together"),
}
_COUNTERS = {
    "rows": ("rows", "Rows answered"),
    "bytes_in": ("request_bytes", "Bytes of request bodies"),
    "bytes_out": ("response_bytes", "Bytes of answers"),
    "compute": ("compute_seconds", "Time of replicas spent on answered rows"),
}


def expose(metrics: Metrics) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Models(metrics))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Models(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield self._requests()
        for field, (name, text) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"forwardpass_{name}", text, labels=_MODEL)
            for labels, stats in self._metrics.models.items():
                histogram: Histogram = getattr(stats, field)
                family.add_metric(labels, buckets=list(_buckets(histogram)), sum_value=histogram.sum)
            yield family
        for field, (name, text) in _COUNTERS.items():
            counter = CounterMetricFamily(f"forwardpass_{name}", text, labels=_MODEL)
            for labels, stats in self._metrics.models.items():
                counter.add_metric(labels, getattr(stats, field))
            yield counter
        yield from _gauges(self._metrics.gauges())

    def _requests(self) -> Metric:
        family = CounterMetricFamily("forwardpass_requests", "Requests that ended", labels=(*_MODEL, "door", "outcome"))
        for labels, stats in self._metrics.models.items():
            for (door, outcome), count in stats.outcomes.items():
                family.add_metric((*labels, door, outcome), count)
        return family


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return zip(bounds, accumulate(histogram.counts), strict=True)


def _gauges(gauges: Iterable[Gauge]) -> Iterator[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    for gauge in gauges:
        family = families.get(gauge.name)
        if family is None:
            family = GaugeMetricFamily(f"forwardpass_{gauge.name}", gauge.help, labels=tuple(gauge.labels))
            families[gauge.name] = family
        family.add_metric(tuple(gauge.labels.values()), gauge.value)
    yield from families.values()
