"""One model on one server: its answers checked, then LoadGen's scenarios one after the other.

The bound of Server is 4 times the median of SingleStream on the same server. Its rate is looked for
in short runs, by their percentile; a longer run that LoadGen calls VALID then confirms it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import answers
from bench.answers import WrongAnswer
from bench.bench import Bench, Cores
from bench.load import LoadFailed
from bench.mlperf import scenario, search
from bench.mlperf.queueing import Queue
from bench.mlperf.samples import Samples, create_samples, expected
from bench.mlperf.scenario import Outcome, Scenario
from bench.processes import Server, StartFailed
from bench.servers import forwardpass

BOUND = 4.0  # times the median of SingleStream
CHECKED = 64  # answers compared with ONNX Runtime's
IMAGE_PERCENTILE = 0.9  # of Server: LoadGen wants 459 queries for a p99, which are too many images for a short run
OFFLINE_ROWS, STREAM_ROWS = 4, 8  # samples in one request; a query of MultiStream is one of 8 per core
GUESS = 0.45  # of Offline: where the search begins
FASTER = 1.3  # than was thought; LoadGen must not run out of prepared queries
ENOUGH = 1000  # queries of a confirming run: LoadGen then forgives 3 late ones
WHAT_FAILS = (LoadFailed, StartFailed, WrongAnswer, OSError)


@dataclass(frozen=True)
class Lengths:
    """Seconds of each run; a confirming run takes up to twice its time, until ``ENOUGH`` queries are sent."""

    single: float = 4
    multi: float = 4
    offline: float = 6
    probe: float = 4
    confirm: float = 12
    tries: int = 3
    halvings: int = 2
    percentile: float = 0.99  # of Server, except for the image network
    queries: int = 70  # at least, in SingleStream and MultiStream: LoadGen wants 65 for a p90
    arrivals: int = 10_000  # of the simulated server


QUICK = Lengths(1, 1, 1.5, 1, 2, tries=1, halvings=1, percentile=0.9, queries=1, arrivals=2_000)


@dataclass(frozen=True)
class Place:
    """Where the server and LoadGen run; one replica per core of the server."""

    name: str
    server: set[int]
    client: set[int]

    @classmethod
    def choose(cls, cores: Cores) -> tuple[Place, ...]:
        both = (cls("both cores", cores.both, cores.both),) if len(cores.both) > 1 else ()
        return (cls("one core", cores.server, cores.client), *both)


@dataclass(frozen=True)
class Most:
    """Queries per second at the bound that an ideal server reaches; ``offline`` is the measured rate."""

    in_order: float
    dropping: float
    offline: float


@dataclass
class Visit:
    """All outcomes of one model at one place."""

    kind: str
    place: Place
    checked: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    scenarios: dict[str, Scenario] = field(default_factory=dict)
    probes: list[str] = field(default_factory=list)  # how the search went
    percentile: float = 0.99  # of Server's latencies
    most: Most | None = None
    failed: str = ""

    @property
    def share(self) -> float | None:
        """The rate of Server as a share of Offline's; None where one of them is not there."""
        if {"Server", "Offline"} <= self.outcomes.keys():
            return self.outcomes["Server"].rate / self.outcomes["Offline"].rate
        return None


def visit(bench: Bench, kind: str, place: Place, lengths: Lengths) -> Visit:
    """Never raises for what a server or LoadGen does: ``failed`` says it."""
    found = Visit(kind, place, percentile=IMAGE_PERCENTILE if kind == "image" else lengths.percentile)
    samples = create_samples(kind, bench.work)
    folder = bench.work / "mlperf" / place.name.replace(" ", "-") / kind
    replicas = len(place.server)
    log = bench.log(f"mlperf_{kind}_{replicas}")
    try:
        with forwardpass(bench.model(samples.model), place.server, log, replicas) as server:
            _Visitor(bench, found, samples, server, folder, lengths).run()
    except WHAT_FAILS as reason:
        found.failed = str(reason)
    return found


class _Visitor:
    def __init__(
        self, bench: Bench, found: Visit, samples: Samples, server: Server, folder: Path, lengths: Lengths
    ) -> None:
        self.bench, self.found, self.samples, self.server = bench, found, samples, server
        self.folder, self.lengths = folder, lengths
        self.replicas = len(found.place.server)

    def run(self) -> None:
        self.found.checked = check(self.samples, self.server.port, self.folder, self.bench.work)
        lengths, least = self.lengths, self.lengths.queries
        single = self.measure(Scenario("SingleStream", lengths.single, self._first_rate(), 0.9, least=least))
        latency = single.latency(50)
        if self.found.kind != "tiny":
            rows = STREAM_ROWS // self.replicas
            self.measure(Scenario("MultiStream", lengths.multi, FASTER / latency, 0.9, rows=rows, least=least))
            rate = FASTER * self.replicas / latency
            self.measure(Scenario("Offline", lengths.offline, rate, rows=OFFLINE_ROWS))
        self._server(BOUND * latency)
        if self.found.kind != "tiny":
            self.found.most = self._most(latency)

    def measure(self, asked: Scenario) -> Outcome:
        """One run, kept under its scenario's name. Raises ``LoadFailed`` where a sample had no good answer."""
        outcome = scenario.run(asked, self.samples, self.server.port, self.folder / asked.name)
        if outcome.errors:
            raise LoadFailed(f"{asked.name}: {dict(outcome.errors)}")
        self.found.outcomes[asked.name], self.found.scenarios[asked.name] = outcome, asked
        return outcome

    def _first_rate(self) -> float:
        """More queries per second than one caller can get of any of the models."""
        return 10_000 if self.found.kind == "tiny" else 500

    def _server(self, bound: float) -> None:
        found, lengths = self.found, self.lengths
        offline = found.outcomes.get("Offline")
        # The tiny model from above: where little is sent, idle cores wake up late and the latency is higher.
        start, factor = (GUESS * offline.rate, 1.3) if offline else (2 * BOUND / bound, 1.5)

        def send(rate: float, seconds: float) -> Outcome:
            asked = Scenario("Server", seconds, rate, found.percentile, bound)
            return scenario.run(asked, self.samples, self.server.port, self.folder / "Server")

        def holds(rate: float) -> bool:
            outcome = send(rate, lengths.probe)
            found.probes.append(f"{rate:.3g} {'held' if outcome.in_bound else 'not'}")
            return outcome.in_bound

        def confirm(rate: float) -> Outcome:
            seconds = min(2 * lengths.confirm, max(lengths.confirm, ENOUGH / rate))
            outcome = send(rate, seconds)
            found.probes.append(f"{rate:.3g} {'VALID' if outcome.valid else 'INVALID'} ({seconds:.0f} s)")
            return outcome

        rate = search.bracket(start, factor, holds, lengths.halvings)
        if rate is None:
            return
        outcome = search.confirm(rate, confirm, lambda one: one.valid, lengths.tries)
        if outcome is not None:
            found.outcomes["Server"] = outcome
            found.scenarios["Server"] = Scenario("Server", lengths.confirm, outcome.rate, found.percentile, bound)

    def _most(self, latency: float) -> Most:
        """An ideal server to which every query costs what a sample cost Offline, the cheapest there is."""
        offline = self.found.outcomes["Offline"].rate
        queue = Queue(0.0, self.replicas / offline, BOUND * latency, self.replicas, self.lengths.arrivals)
        late = 1 - self.found.percentile
        return Most(queue.most(late, drops=False), queue.most(late, drops=True), offline)


def check(samples: Samples, port: int, folder: Path, work: Path) -> int:
    """Rows that a run of LoadGen's accuracy mode gave and that are ONNX Runtime's. Raises ``WrongAnswer``."""
    got = scenario.run_accuracy(samples, port, folder / "accuracy", OFFLINE_ROWS)
    if len(got) != len(samples.rows):
        raise WrongAnswer(f"{len(got)} of {len(samples.rows)} samples were answered")
    wanted = expected(samples, work, CHECKED)
    for index, values in enumerate(wanted):
        answers.compare(floats(got[index]), values)
    return len(wanted)


def floats(row: bytes) -> Sequence[float]:
    return struct.unpack(f"<{len(row) // 4}f", row)
