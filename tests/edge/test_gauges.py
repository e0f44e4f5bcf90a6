"""What the status says, metrics say too."""

from __future__ import annotations

from typing import Any

import pytest
from tests.edge.statuses import LOADING, OUTBOX, STATUS, UPDATES

from forwardpass.edge.gauges import agent_gauges


def values(status: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """By name and the values of the labels; each once."""
    found = [((gauge.name, *gauge.labels.values()), gauge.value) for gauge in agent_gauges(status)]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_what_runs_how_it_is_and_what_waits() -> None:
    found = values(STATUS)
    for key, value in {
        ("agent_info", "digits", "3", "b", "linux-x86_64", "0.1.0"): 1,
        ("agent_ready",): 1,
        ("agent_uptime_seconds",): 273600,
        ("agent_last_contact_timestamp_seconds",): 940,
        ("agent_predictions",): 7,
        ("agent_errors",): 1,
        ("agent_rows_per_second",): 20,
        ("agent_latency_seconds", "0.5"): 0.0012,
        ("agent_follow_up", "dropped"): 0,
        ("agent_input_items", "mqtt:a", "read"): 5,
        ("agent_input_problem", "mqtt:a"): 0,
        ("agent_output_items", "file:x", "sent"): 4,
        ("agent_output_waiting", "file:x"): 3,
        ("agent_outbox_entries", "usage"): 2,
        ("agent_outbox_ended", "sent_usage"): 9,
        ("agent_outbox_bytes",): 3833,
        ("agent_service_problem", "outbox"): 0,
        ("agent_update_info", "waiting", "stable", ""): 1,
        ("agent_update_check_timestamp_seconds",): 990,
        ("agent_update_failed",): 0,
    }.items():
        assert found[key] == value, key
    assert {gauge.name for gauge in agent_gauges(STATUS) if gauge.grows} == {
        "agent_predictions",
        "agent_rows",
        "agent_errors",
    }
    assert ("agent_latency_seconds", "0.99") not in found, "nothing is known of it"
    assert ("agent_watching_seconds",) not in found


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        (LOADING, ("agent_ready",), 0),
        ({"watching": 5.0}, ("agent_watching_seconds",), 5),
        ({"inputs": [STATUS["inputs"][0] | {"problem": "no broker"}]}, ("agent_input_problem", "mqtt:a"), 1),
        ({"services": [OUTBOX | {"upload_error": "no network"}]}, ("agent_service_problem", "outbox"), 1),
        ({"services": [OUTBOX | {"lost": {"record": 3}}]}, ("agent_outbox_lost", "record"), 3),
        ({"services": [UPDATES | {"failed": {"version": "4", "why": "", "at": 1.0}}]}, ("agent_update_failed",), 1),
        ({"services": [{"name": "updates", "bundle_error": "bad"}]}, ("agent_service_problem", "updates"), 1),
    ],
)
def test_what_is_not_well_is_a_number(more: dict[str, Any], key: tuple[str, ...], value: float) -> None:
    assert values(STATUS | more)[key] == value
    assert values(STATUS).get(key) != value
