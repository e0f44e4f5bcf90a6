"""The load generators' arithmetic, and both of them against a real nginx where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.load import LoadFailed, Request, percentile, read_result, uncorrected
from bench.processes import Server
from hypothesis import given
from hypothesis import strategies as st

from bench import load, nginx, servers

ONE_SECOND = {"microseconds": 1_000_000, "errors": 0, "p50": 90, "p99": 400, "histogram": []}


def corrected(counts: dict[int, int], expected: int) -> dict[int, int]:
    """What wrk does before it reports (``stats_correct``), said again in Python."""
    made = dict(counts)
    for value in sorted(counts):
        if value >= 2 * expected:
            for lower in range(value - expected, expected, -expected):
                made[lower] = made.get(lower, 0) + counts[value]
    return made


@given(st.dictionaries(st.integers(1, 2_000), st.integers(1, 50), min_size=1), st.integers(1, 400))
def test_uncorrected_takes_out_what_wrk_adds(counts: dict[int, int], expected: int) -> None:
    assert uncorrected(list(corrected(counts, expected).items()), expected) == counts


def test_percentile_is_a_value_that_was_seen() -> None:
    histogram = {10: 98, 20: 1, 500: 1}
    assert [percentile(histogram, p) for p in (50, 98, 99, 100)] == [10, 10, 20, 500]


def test_result_gives_rate_and_seconds() -> None:
    measured = read_result({**ONE_SECOND, "requests": 5_000}, connections=64, client_cpu=0.5)
    assert (measured.rate, measured.p50, measured.p99, measured.client_cpu) == (5_000, 90e-6, 400e-6, 0.5)


@pytest.mark.parametrize("change", [{"errors": 1}, {"requests": 0}])
def test_a_failed_request_fails_the_measurement(change: dict[str, int]) -> None:
    with pytest.raises(LoadFailed, match="failed or were refused"):
        read_result({**ONE_SECOND, "requests": 5_000, **change}, connections=64, client_cpu=0)


def test_a_histogram_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(LoadFailed, match="add up"):
        read_result({**ONE_SECOND, "requests": 5, "histogram": [[100, 4]]}, connections=1, client_cpu=0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if nginx.find() is None:
        pytest.skip("nginx is not installed")
    with servers.fixed_reply(tmp_path / "nginx", os.sched_getaffinity(0), json_size=300, binary_size=40) as started:
        yield started


def request_for(tmp_path: Path, path: str) -> Request:
    bodies = []
    for number in range(2):
        bodies.append(tmp_path / f"{number}.json")
        bodies[-1].write_text(json.dumps({"number": number}))
    return Request(path, "application/json", tuple(bodies))


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.parametrize("connections", [1, 8])
def test_wrk_measures_nginx(server: Server, tmp_path: Path, connections: int) -> None:
    measured = load.send(server.port, request_for(tmp_path, "/json"), connections, 1, os.sched_getaffinity(0))
    assert measured.rate > 100
    assert 0 < measured.p50 <= measured.p99 < 1
    assert measured.client_cpu > 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_counts_a_refused_request(server: Server, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="failed or were refused"):
        load.send(server.port, request_for(tmp_path, "/missing"), 1, 1, os.sched_getaffinity(0))


@pytest.mark.parametrize(("path", "refused"), [("/binary", False), ("/missing", True)])
def test_the_python_client_agrees(server: Server, tmp_path: Path, path: str, refused: bool) -> None:
    command = load._python_client(server.port, request_for(tmp_path, path), 4, 0.5)
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(output)
    assert result["requests"] > 10
    assert result["errors"] == (result["requests"] if refused else 0)
