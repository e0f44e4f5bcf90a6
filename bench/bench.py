"""What the sections of the benchmark share: how long, on which cores, in which folder, with which results."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import answers, load
from bench.load import Load, Request
from bench.processes import Server
from bench.results import FAILURES, Results
from bench.servers import Started

SETTLE = 0.3  # seconds in which a server ends what the last connections left behind


@dataclass(frozen=True)
class Plan:
    """Seconds of one measurement by what it measures, and how often everything is measured."""

    rounds: int = 3
    warm: float = 2
    fast: float = 8
    slow: float = 20
    starts: int = 7


QUICK = Plan(rounds=3, warm=1, fast=2, slow=4, starts=3)


@dataclass(frozen=True)
class Cores:
    """The server's core, the load generator's core, and the server's two where it gets both."""

    server: set[int]
    client: set[int]
    both: set[int]

    @classmethod
    def choose(cls) -> Cores:
        """Of the cores this process may use: the server on the first, load on the last."""
        usable = sorted(os.sched_getaffinity(0))
        return cls({usable[0]}, {usable[-1]}, set(usable[:2]))


@dataclass(frozen=True)
class Target:
    """One thing to measure: a request to a server, under the name that results carry."""

    name: str
    server: Server
    request: Request
    client_cores: set[int]


@dataclass
class Bench:
    work: Path
    plan: Plan
    cores: Cores
    results: Results = field(default_factory=Results)

    def requests(self, pattern: str) -> tuple[Path, ...]:
        return tuple(sorted((self.work / "requests").glob(pattern)))

    def model(self, kind: str) -> Path:
        return self.work / "models" / kind

    def log(self, name: str) -> Path:
        return self.work / "logs" / f"{name}.log"

    def expected(self, kind: str) -> list[float]:
        numbers: list[float] = json.loads((self.work / "expected.json").read_text())[kind]
        return numbers

    def start(self, stack: ExitStack, started: Started, *names: str) -> Server | None:
        """Start a server until ``stack`` closes; where that fails, so has everything named after it."""
        try:
            return stack.enter_context(started)
        except FAILURES as reason:
            for name in names:
                self.results.fail(name, reason)
            return None

    def check(self, target: Target, kind: str) -> int | None:
        """Bytes of a right answer; ``None`` and a failed name where it is not right."""
        try:
            return answers.check(target.server.port, target.request, self.expected(kind))
        except FAILURES as reason:
            self.results.fail(target.name, reason)
            return None

    def measure(self, target: Target, connections: int, seconds: float) -> Load:
        """Warm up, then measure, with the CPU time that the server used meanwhile."""
        port, request, cores = target.server.port, target.request, target.client_cores
        load.send(port, request, connections, self.plan.warm, cores)
        time.sleep(SETTLE)
        before = target.server.cpu_seconds()
        measured = load.send(port, request, connections, seconds, cores)
        return replace(measured, server_cpu=target.server.cpu_seconds() - before)
