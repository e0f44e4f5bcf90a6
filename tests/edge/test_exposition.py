"""Metrics written by hand are what Prometheus' own parser reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from forwardpass.edge.exposition import exposition
from forwardpass.monitoring import Metrics
from forwardpass.monitoring.metrics import Gauge
from forwardpass.types import Outcome, Record


def test_a_parser_reads_all_of_it() -> None:
    metrics = Metrics()
    record = Record("", "m", "1", "http", Outcome.OK, 5.0, 2, 0, 0, 0.003, 0.0, 0.0, 0.001, 0.0, 0.002, 2)
    metrics.write([record])
    gauges = [
        Gauge("model_ready", "1 where it can answer", {"model": "m"}, 1.0),
        Gauge("sent", "Messages", {"output": 'mqtt:a/"b"\\c\n'}, 7.0),
        Gauge("seen", "Rows", {}, 9.0, grows=True),
    ]
    families = list(text_string_to_metric_families(exposition(metrics, gauges).decode()))
    assert len({family.name for family in families}) == len(families), "each family once"
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }
    labels = (("model", "m"), ("version", "1"))
    assert samples["forwardpass_requests_total", ("door", "http"), labels[0], ("outcome", "ok"), labels[1]] == 1
    assert samples["forwardpass_rows_total", *labels] == 2
    assert samples["forwardpass_request_seconds_bucket", ("le", "0.005"), *labels] == 1
    assert samples["forwardpass_request_seconds_bucket", ("le", "0.0025"), *labels] == 0
    assert samples["forwardpass_request_seconds_sum", *labels] == 0.003
    assert samples["forwardpass_model_ready", ("model", "m")] == 1
    kinds = {family.name: family.type for family in families}
    assert (kinds["forwardpass_sent"], kinds["forwardpass_seen"]) == ("gauge", "counter")
    assert samples["forwardpass_sent", ("output", 'mqtt:a/"b"\\c\n')] == 7


def test_series_of_the_same_labels_are_one() -> None:
    """Two outputs may have one name; a series that is there twice makes all that was scraped void."""
    sent = [Gauge("sent", "Messages", {"output": "mqtt:a"}, value) for value in (7.0, 8.0)]
    families = {family.name: family for family in text_string_to_metric_families(exposition(Metrics(), sent).decode())}
    assert [sample.value for sample in families["forwardpass_sent"].samples] == [15.0]


def test_histograms_are_whole() -> None:
    metrics = Metrics()
    metrics.write([Record("", "m", "1", "http", Outcome.OK, 5.0, 2, 0, 0, 99.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2)])
    families = {family.name: family for family in text_string_to_metric_families(exposition(metrics, ()).decode())}
    samples = families["forwardpass_request_seconds"].samples
    assert [s.value for s in samples if s.labels.get("le") == "+Inf"] == [1.0]
    assert [s.value for s in samples if s.name.endswith("_count")] == [1.0]
