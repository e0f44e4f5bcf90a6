"""One run of LoadGen against a server: its settings, its verdict, its own summary.

LoadGen runs in a thread of its own, so that Ctrl-C and SIGTERM are heard meanwhile. It keeps
state of its own: one run at a time. Knows neither models nor what is done with the figures.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlperf_loadgen

from bench.load import LoadFailed
from bench.mlperf.client import Client
from bench.mlperf.samples import Samples

PATIENCE = 120.0  # seconds that a run may take beyond what was asked for
SEED = 20261122  # of LoadGen's draws: the same arrivals and samples for every rate and every server
FIGURE = re.compile(r"^ *([\w./() -]*[\w)]) *: *([\d.]+)$", re.MULTILINE)
SUMMARY = "mlperf_log_summary.txt"


class Stuck(Exception):
    """LoadGen does not come to an end. No other run can be started in this process."""


@dataclass(frozen=True)
class Scenario:
    """What LoadGen is asked for. Times are seconds.

    ``expected`` is how many queries per second LoadGen should prepare for (Server: sends at random
    times); ``percentile`` of their latencies must be within ``bound`` (Server only). ``rows`` is how
    many samples the client puts into one request, ``per_query`` how many a MultiStream query has.
    """

    name: str  # as LoadGen's TestScenario has it
    seconds: float
    expected: float
    percentile: float = 0.99
    bound: float = 0.0
    rows: int = 1
    per_query: int = 8
    least: int = 1  # queries, also where they take longer


@dataclass(frozen=True)
class Outcome:
    """LoadGen's verdict and figures, its summary as text, and what the client saw go wrong."""

    summary: str
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def figures(self) -> dict[str, float]:
        """The numbers of the summary by LoadGen's own names."""
        return {name.strip(): float(value) for name, value in FIGURE.findall(self.summary)}

    @property
    def valid(self) -> bool:
        """LoadGen says so, and every sample had a good answer."""
        return "Result is : VALID" in self.summary and not self.errors

    @property
    def in_bound(self) -> bool:
        """The percentile asked for is within the bound. Fewer queries suffice than for ``valid``."""
        return "Performance constraints satisfied : Yes" in self.summary and not self.errors

    @property
    def rate(self) -> float:
        """Samples per second: Server and Offline."""
        figures = self.figures
        return figures.get("Samples per second") or figures["Completed samples per second"]

    def latency(self, percent: float) -> float:
        """Seconds."""
        return self.figures[f"{percent:.2f} percentile latency (ns)"] / 1e9


def run(scenario: Scenario, samples: Samples, port: int, folder: Path) -> Outcome:
    """Raises ``Stuck``, and ``OSError`` where there is no server."""
    client = Client(samples, scenario.rows)
    with client.connected(port):
        _run_loadgen(client, len(samples.rows), _settings(scenario), folder, scenario.seconds)
    return Outcome((folder / SUMMARY).read_text(encoding="utf-8"), client.errors)


def run_program(program: Callable[[], None]) -> None:
    """A program that may be stopped during a run. LoadGen's thread cannot be, and would abort the usual end."""
    try:
        program()
    except (SystemExit, KeyboardInterrupt, Stuck) as reason:
        sys.stdout.flush()
        if isinstance(reason, SystemExit) and isinstance(reason.code, int):
            os._exit(reason.code)
        print(f"ended: {reason!r}", file=sys.stderr, flush=True)
        os._exit(1)


def run_accuracy(samples: Samples, port: int, folder: Path, rows: int) -> dict[int, bytes]:
    """Every sample once, ``rows`` to a request: the answers by sample, as LoadGen logged them."""
    client = Client(samples, rows, keeps=True)
    settings = _settings(Scenario("Offline", 1, 1))
    settings.mode = mlperf_loadgen.TestMode.AccuracyOnly
    with client.connected(port):
        _run_loadgen(client, len(samples.rows), settings, folder, 1)
    if client.errors:
        raise LoadFailed(f"accuracy: {dict(client.errors)}")
    logged = json.loads((folder / "mlperf_log_accuracy.json").read_text())
    return {entry["qsl_idx"]: bytes.fromhex(entry["data"]) for entry in logged}


def _settings(scenario: Scenario) -> mlperf_loadgen.TestSettings:
    settings = mlperf_loadgen.TestSettings()
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.scenario = getattr(mlperf_loadgen.TestScenario, scenario.name)
    settings.min_duration_ms = round(1e3 * scenario.seconds)
    settings.min_query_count = scenario.least
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = SEED
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = 1e9 / scenario.expected
    settings.multi_stream_samples_per_query = scenario.per_query
    settings.multi_stream_target_latency_percentile = scenario.percentile
    settings.offline_expected_qps = settings.server_target_qps = scenario.expected
    settings.server_target_latency_ns = round(1e9 * scenario.bound)
    settings.server_target_latency_percentile = scenario.percentile
    return settings


def _run_loadgen(
    client: Client, samples: int, settings: mlperf_loadgen.TestSettings, folder: Path, seconds: float
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    logs = mlperf_loadgen.LogSettings()
    logs.enable_trace = False
    logs.log_output.outdir = str(folder)
    system = mlperf_loadgen.ConstructFastSUT(client.issue, client.flush)
    library = mlperf_loadgen.ConstructQSL(samples, samples, lambda _: None, lambda _: None)
    start = mlperf_loadgen.StartTestWithLogSettings
    # LoadGen would otherwise read an audit.config from the current folder
    thread = threading.Thread(target=start, args=(system, library, settings, logs, ""), daemon=True)
    thread.start()
    thread.join(seconds + PATIENCE)
    if thread.is_alive():
        raise Stuck(f"LoadGen has not ended {PATIENCE:.0f} s after its time")
    mlperf_loadgen.DestroyQSL(library)
    mlperf_loadgen.DestroyFastSUT(system)
