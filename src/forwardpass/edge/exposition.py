"""Metrics in Prometheus' text format, written by hand: a device has no library for it.

Requests and times are named as the server names them. Knows neither who counts nor who asks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from forwardpass.monitoring.metrics import Gauge, Histogram, Metrics

_HISTOGRAMS = {
    "total": ("request_seconds", "Time from a request's arrival to its answer"),
    "queue": ("queue_seconds", "Time that requests waited for a replica"),
    "forward": ("forward_seconds", "Time of the forward pass, per batch"),
}
_COUNTERS = {
    "rows": ("rows", "Rows answered"),
    "compute": ("compute_seconds", "Time of replicas spent on answered rows"),
}


def exposition(metrics: Metrics, gauges: Iterable[Gauge]) -> bytes:
    """All of it."""
    return ("\n".join([*_models(metrics), *_gauges(gauges)]) + "\n").encode()


def _models(metrics: Metrics) -> Iterator[str]:
    yield from _head("requests_total", "Requests that ended", "counter")
    for (model, version), stats in metrics.models.items():
        for (door, outcome), count in stats.outcomes.items():
            labels = {"model": model, "version": version, "door": door, "outcome": outcome}
            yield _sample("requests_total", labels, count)
    for field, (name, text) in _COUNTERS.items():
        yield from _head(f"{name}_total", text, "counter")
        for (model, version), stats in metrics.models.items():
            yield _sample(f"{name}_total", {"model": model, "version": version}, getattr(stats, field))
    for field, (name, text) in _HISTOGRAMS.items():
        yield from _head(name, text, "histogram")
        for (model, version), stats in metrics.models.items():
            yield from _histogram(name, {"model": model, "version": version}, getattr(stats, field))


def _histogram(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[str]:
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], accumulate(histogram.counts), strict=True):
        yield _sample(f"{name}_bucket", {**labels, "le": bound}, count)
    yield _sample(f"{name}_sum", labels, histogram.sum)
    yield _sample(f"{name}_count", labels, histogram.count)


def _gauges(gauges: Iterable[Gauge]) -> Iterator[str]:
    """Each series once: those that share name and labels, such as two inputs of one name, are added up."""
    heads: dict[str, tuple[str, str]] = {}
    families: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(lambda: defaultdict(float))
    for gauge in gauges:
        heads.setdefault(gauge.name, (gauge.help, "counter" if gauge.grows else "gauge"))
        families[gauge.name][tuple(gauge.labels.items())] += gauge.value
    for name, series in families.items():
        yield from _head(name, *heads[name])
        for labels, value in series.items():
            yield _sample(name, dict(labels), value)


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP forwardpass_{name} {text}"
    yield f"# TYPE forwardpass_{name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"forwardpass_{name}{{{inside}}} {value}" if inside else f"forwardpass_{name} {value}"


def _escaped(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
