"""One start of a peer with one model, and what is measured before it is ended again.

A peer runs alone: the idle work of others (heartbeats, polling) would take from its core. So every
round starts it anew, and every round measures its start. Nothing of it is left afterwards.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from bench import load
from bench.answers import WrongAnswer
from bench.bench import SETTLE, Bench, Target
from bench.load import Load, LoadFailed, Request
from bench.peers import answer, environments, leftovers, open_loop
from bench.peers.peers import Ask, Peer
from bench.peers.place import Place
from bench.processes import Server, free_port, serving
from bench.results import FAILURES

FAILED = (*FAILURES, subprocess.SubprocessError, OSError)
TRIES = 2
ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 64
SHARE = 0.7  # of a peer's own rate, for the open loop
BATCH = {"tiny": 32, "binary": 32, "text": 8, "image": 8}
WARM = 8  # connections: servers go on with what a closed connection asked for, 64 images take 3 s
FIRST_ANSWER = 30  # seconds after it says that it is ready
MEASURES = {
    "start": "tiny, command to first answer",
    "single": "tiny JSON, 1 connection",
    "unbatched": "tiny JSON, 1 connection, batching off",
    "tiny": "tiny JSON",
    "binary": "tiny binary",
    "open": "tiny JSON, open loop",
    "memory": "tiny, memory after load",
    "text": "text",
    "text-open": "text, open loop",
    "image": "image",
}


@dataclass(frozen=True)
class Visit:
    """Which of ``MEASURES`` one start of a peer takes, in this order; ``kind`` is what it serves."""

    kind: str
    measures: tuple[str, ...]
    batching: bool = True


VISITS = (
    Visit("tiny", ("start", "single", "tiny", "binary", "open", "memory")),
    Visit("binary", ("binary",)),
    Visit("tiny", ("unbatched",), batching=False),
    Visit("text", ("text", "text-open")),
    Visit("image", ("image",)),
)


def name(peer: Peer, measure: str) -> str:
    return f"{peer.name}, {MEASURES[measure]}"


def measures(visit: Visit, peer: Peer) -> tuple[str, ...]:
    """Those that this peer has in this visit."""
    if visit.kind not in peer.asks or not (visit.batching or peer.waits):
        return ()
    if visit.kind == "binary" and peer.together:
        return ()
    return tuple(measure for measure in visit.measures if measure != "binary" or peer.together or visit.kind == measure)


@dataclass
class Visitor:
    """Makes visits. ``loads``, ``numbers`` (seconds, megabytes) and ``failures`` are by name, one per round."""

    bench: Bench
    environments: Path
    wanted: frozenset[str]
    loads: dict[str, list[Load]] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)

    def visit(self, peer: Peer, visit: Visit) -> None:
        """Start, check, measure, end. What failed twice is not tried again: it may be what hangs."""
        tried = [measure for measure in measures(visit, peer) if measure in self.wanted]
        todo = [measure for measure in tried if len(self.failures.get(name(peer, measure), ())) < TRIES]
        if not todo:
            return
        try:
            begun = time.perf_counter()
            with self._started(peer, visit) as server:
                answered = time.perf_counter() - begun
                while todo:
                    self._attempt(peer, todo[0], server, answered)
                    todo.pop(0)
        except FAILED as reason:
            for measure in todo:
                self._fail(peer, measure, reason)

    def _attempt(self, peer: Peer, measure: str, server: Server, answered: float) -> None:
        try:
            self._measure(peer, measure, server, answered)
        except FAILED as reason:
            self._fail(peer, measure, reason)

    def _fail(self, peer: Peer, measure: str, reason: Exception) -> None:
        self.failures.setdefault(name(peer, measure), []).append(str(reason))

    @contextmanager
    def _started(self, peer: Peer, visit: Visit) -> Iterator[Server]:
        """A server that has given a right answer."""
        programs = environments.programs(self.environments, peer)
        log = self.environments / "logs" / f"{peer.name.split()[0].lower()}-{visit.kind}.log"
        mark = uuid4().hex
        with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as scratch:
            place = Place(programs, free_port(), Path(scratch), visit.kind, BATCH[visit.kind] if visit.batching else 1)
            environ = {**surroundings(place, self.bench.work), **peer.environ, leftovers.MARK: mark}
            try:
                cores = self.bench.cores.server
                with serving(peer.command(place), place.port, peer.ready, cores, log, environ) as server:
                    self._first_answer(server, self.request(peer.asks[visit.kind]), visit.kind)
                    yield server
            finally:
                leftovers.end(mark)

    def _first_answer(self, server: Server, request: Request, kind: str) -> None:
        """Wait for a right answer."""
        expected = self.bench.expected("tiny" if kind == "binary" else kind)
        until = time.monotonic() + FIRST_ANSWER
        while True:
            try:
                return answer.check(server.port, request, expected)
            except WrongAnswer:
                if time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def request(self, ask: Ask) -> Request:
        length = ask.header_length and int((self.bench.work / "requests" / ask.header_length).read_text())
        return Request(ask.path, ask.content_type, self.bench.requests(ask.bodies), length or None)

    def _measure(self, peer: Peer, measure: str, server: Server, answered: float) -> None:
        kind = "text" if measure.startswith("text") else measure if measure in ("binary", "image") else "tiny"
        if measure == "start":
            self.numbers.setdefault(name(peer, measure), []).append(answered)
        elif measure == "memory":
            megabytes = sum(process.shared for process in server.memory().values())
            self.numbers.setdefault(name(peer, measure), []).append(megabytes)
        else:
            target = Target(name(peer, measure), server, self.request(peer.asks[kind]), self.bench.cores.client)
            measured = self._load(peer, measure, target)
            self.loads.setdefault(target.name, []).append(measured)

    def _load(self, peer: Peer, measure: str, target: Target) -> Load:
        plan, port = self.bench.plan, target.server.port
        seconds = plan.slow if measure.startswith(("text", "image")) else plan.fast
        if measure.endswith("open"):
            loads = self.loads.get(name(peer, "text" if measure == "text-open" else "tiny"))
            if not loads:
                raise LoadFailed("its rate at 64 connections was not measured")
            return open_loop.send(port, target.request, SHARE * loads[-1].rate, seconds, target.client_cores)
        if measure == "binary":  # a peer that answers both in one start has been checked with JSON only
            answer.check(port, target.request, self.bench.expected("tiny"))
        return self._closed(target, 1 if measure in ("single", "unbatched") else CONNECTIONS, seconds)

    def _closed(self, target: Target, connections: int, seconds: float) -> Load:
        """Warm up over few connections, then measure, with the CPU time that the server used meanwhile."""
        port, request, cores = target.server.port, target.request, target.client_cores
        with suppress(LoadFailed):  # what is wrong shows in the measurement; nothing in one second need not be
            load.send(port, request, min(connections, WARM), self.bench.plan.warm, cores)
        time.sleep(SETTLE)
        before = target.server.cpu_seconds()
        measured = load.send(port, request, connections, seconds, cores)
        return replace(measured, server_cpu=target.server.cpu_seconds() - before)


def surroundings(place: Place, work: Path) -> dict[str, str]:
    """What ``serve.model`` reads, and a folder for whatever a peer writes."""
    return {
        "PEER_KIND": place.kind,
        "PEER_PORT": str(place.port),
        "PEER_MAX_BATCH_SIZE": str(place.batch),
        "PEER_MODELS": str((work / "models").resolve()),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{place.programs}:{os.environ['PATH']}",
        "TMPDIR": str(place.scratch),
        "BENTOML_HOME": str(place.scratch),
        "NO_PROXY": "127.0.0.1,localhost",
    }
