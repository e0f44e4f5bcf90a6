"""The measures of the gateway, from made-up measurements; and nginx's configuration as a proxy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from bench.gateway import DIRECT, GATEWAY, KINDS, PROXY, name, rows
from bench.load import Load
from bench.results import Results
from bench.tiny import ONE

from bench import nginx


def load(rate: float, p50: float) -> Load:
    return Load(int(rate), 1.0, p50, 2 * p50, client_cpu=0.1, server_cpu=0.5)


def measured() -> Results:
    results = Results()
    for kind in KINDS:
        for place, rate, p50 in ((DIRECT, 1000, 1e-3), (PROXY, 800, 2e-3), (GATEWAY, 600, 5e-3)):
            for slower in (1, 2, 1):  # a slow round slows all
                results.attempt(name(place, kind), partial(load, rate / slower, 0.1))
                results.attempt(name(place, kind) + ONE, partial(load, 10, p50 * slower))
    return results


def test_rates_are_shares_and_latencies_differences_by_round() -> None:
    found = rows(measured())
    assert [row.value.median if row.value else None for row in found] == pytest.approx([0.6, 0.75, 4.0] * 2)
    assert found[2].note == "nginx adds 1 ms"
    assert found[2].value is not None
    assert found[2].value.high == pytest.approx(8.0)


def test_without_nginx_the_rest_is_measured() -> None:
    results = measured()
    for kind in KINDS:
        results.fail(name(PROXY, kind), "nginx is not installed")
        results.fail(name(PROXY, kind) + ONE, "nginx is not installed")
    found = rows(results)
    assert [row.verdict for row in found] == ["pass", "**not measured**", "**missed**"] * 2
    assert "not installed" in found[1].note


def test_nginx_passes_everything_on_over_kept_connections(tmp_path: Path) -> None:
    nginx.proxy_command(tmp_path / "proxy", 1234, 5678)
    written = (tmp_path / "proxy" / "nginx.conf").read_text()
    for part in ("listen 127.0.0.1:1234", "server 127.0.0.1:5678", "keepalive 64", "proxy_http_version 1.1"):
        assert part in written
    nginx.command(tmp_path / "fixed", 1234, 3, 4)
    assert "proxy_pass" not in (tmp_path / "fixed" / "nginx.conf").read_text()
