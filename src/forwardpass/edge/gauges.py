"""An agent's status as gauges: what ``forwardpass agent status`` tells people, for Prometheus.

Labels have few values: of texts go in what names a version or a state; a problem is 1 while it is there, and what it
is stands in the status. Knows neither who counts nor how gauges are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from forwardpass.monitoring.metrics import Gauge

Labels = dict[str, str]
Json = Mapping[str, Any]

BEGUN_AGAIN = "Times that it ended unforeseen and was begun again"
_NAMED = ("model", "version", "slot", "target", "agent")
# by key in the status: the name of the gauge, and its help
_AGENT = {
    "ready": ("agent_ready", "1 where the model can answer"),
    "uptime": ("agent_uptime_seconds", "Since the start"),
    "watching": ("agent_watching_seconds", "Until a new version is kept"),
    "last_contact": ("agent_last_contact_timestamp_seconds", "When a server was last reached"),
}
_MINUTE = {what: (f"agent_{what}_per_second", "Of the last minute") for what in ("predictions", "rows", "errors")}
_QUANTILES = {"p50": "0.5", "p99": "0.99"}
_OUTBOX = {
    "bytes": ("agent_outbox_bytes", "What is in the outbox takes"),
    "most_bytes": ("agent_outbox_most_bytes", "What it may take"),
    "set_aside": ("agent_outbox_set_aside", "Entries that the server refused"),
}
_UPDATES = {
    "last_check": ("agent_update_check_timestamp_seconds", "When an update was last looked for"),
    "received_bytes": ("agent_update_received_bytes", "What is here of the release that is fetched"),
    "total_bytes": ("agent_update_total_bytes", "All of it"),
}


def agent_gauges(status: Json) -> Iterator[Gauge]:
    """All of it; what has no value now is left out."""
    yield Gauge("agent_info", "What runs here", {key: status[key] for key in _NAMED}, 1.0)
    minute = status["last_minute"]
    for names, values in ((_AGENT, status), (_MINUTE, minute)):
        yield from _each(names, values)
    for what, count in status["total"].items():
        yield Gauge(f"agent_{what}", "Since the start", {}, float(count), grows=True)
    for key, quantile in _QUANTILES.items():
        yield from _each({key: ("agent_latency_seconds", "Of the last minute")}, minute, {"quantile": quantile})
    yield from _counts("agent_follow_up", "Predictions behind their answer", status["follow_up"], "state")
    for item in status["inputs"]:
        own = {"input": item["name"]}
        yield from _way("agent_input", item, own)
        yield Gauge("agent_input_restarts", BEGUN_AGAIN, own, item.get("restarts", 0))
    for item in status["outputs"]:
        own = {"output": item["name"]}
        yield from _way("agent_output", item, own)
        yield Gauge("agent_output_waiting", "Messages in the queue", own, item["waiting"])
    for service in status["services"]:
        yield from _service(service)


def _way(name: str, item: Json, labels: Labels) -> Iterator[Gauge]:
    """An input or an output."""
    yield from _counts(f"{name}_items", "Since the start, by what became of them", item["counts"], "what", labels)
    yield Gauge(f"{name}_problem", "1 while something keeps it from working", labels, float(bool(item["problem"])))


def _service(service: Json) -> Iterator[Gauge]:
    own = {"service": service["name"]}
    ill = any(value for key, value in service.items() if key.endswith("error"))
    yield Gauge("agent_service_problem", "1 while something keeps it from working", own, float(ill))
    yield Gauge("agent_service_restarts", BEGUN_AGAIN, own, service.get("restarts", 0))
    if service["name"] == "outbox":
        yield from _counts("agent_outbox_entries", "Entries that wait", service.get("waiting", {}), "kind")
        yield from _counts("agent_outbox_ended", "Entries by what became of them", service.get("counts", {}), "what")
        yield from _counts("agent_outbox_lost", "Entries lost since the start", service["lost"], "kind")
        yield from _each(_OUTBOX, service)
    elif "state" in service:
        labels = {key: str(service[key] or "") for key in ("state", "channel", "release")}
        yield Gauge("agent_update_info", "What the updater does", labels, 1.0)
        text = "1 where the release that was tried last was not kept"
        yield Gauge("agent_update_failed", text, {}, float(service["failed"] is not None))
        yield from _each(_UPDATES, service)


def _each(names: Mapping[str, tuple[str, str]], values: Json, labels: Labels | None = None) -> Iterator[Gauge]:
    for key, (name, text) in names.items():
        if values.get(key) is not None:
            yield Gauge(name, text, labels or {}, float(values[key]))


def _counts(name: str, text: str, counts: Json, label: str, labels: Labels | None = None) -> Iterator[Gauge]:
    for key, count in counts.items():
        yield Gauge(name, text, {**(labels or {}), label: key}, count)
