"""Metrics in Prometheus' text format, written by hand: a device has no library for it.

Requests and times are named as the server names them. What is the agent's own comes as its status:
every number in it is a gauge by its path. Knows neither who counts nor who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

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


def exposition(metrics: Metrics, gauges: Iterable[Gauge], status: Mapping[str, Any]) -> bytes:
    """All of it. Of ``status``, lists are by the ``name`` of their items."""
    lines = [*_models(metrics), *_gauges([*gauges, *_numbers("agent", status, {})])]
    return ("\n".join(lines) + "\n").encode()


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
    families: dict[str, list[Gauge]] = {}
    for gauge in gauges:
        families.setdefault(gauge.name, []).append(gauge)
    for name, members in families.items():
        yield from _head(name, members[0].help, "gauge")
        for gauge in members:
            yield _sample(name, gauge.labels, gauge.value)


def _numbers(name: str, value: Any, labels: dict[str, str]) -> Iterator[Gauge]:
    """The numbers in a status, whatever it holds."""
    if isinstance(value, bool | int | float):
        yield Gauge(name, "See `forwardpass agent status`", labels, float(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(f"{name}_{_word(key)}", item, labels)
    elif isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, Mapping) and isinstance(item.get("name"), str):
                yield from _numbers(name, item, {**labels, "name": item["name"]})


def _word(key: Any) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in str(key))


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP forwardpass_{name} {text}"
    yield f"# TYPE forwardpass_{name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"forwardpass_{name}{{{inside}}} {value}" if inside else f"forwardpass_{name} {value}"


def _escaped(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
