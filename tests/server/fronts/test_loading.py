"""Models loaded, replaced and unloaded under traffic to both fronts; and each front by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests import artifacts
from tests.server.fronts.family import Answer, Client, clients, control, fronts, needs_proc, statistics, until, workers
from tests.server.process import Server, running

pytestmark = needs_proc


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name in ("replaced", "gone", "steady"):
        times(folder / name, 1)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with running([repository], "--fronts", "2") as made:
        yield made


def times(folder: Path, factor: float) -> None:
    """A model that answers with ``factor`` times what it gets."""
    constants = [artifacts.constant("factor", np.float32(factor))]
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    artifacts.save(
        folder / "model.onnx",
        [node],
        [artifacts.tensor("x", ["N", 2])],
        [artifacts.tensor("y", ["N", 2])],
        constants,
    )
    (folder / "model.yaml").write_text("warm_up: false\n")


class Traffic:
    """Asks one model over several connections, until it is stopped; keeps the answers of each."""

    def __init__(self, model: str, asking: Sequence[Client]) -> None:
        self.answers: list[list[Answer]] = [[] for _ in asking]
        self._stop = threading.Event()
        work: Callable[[Client, list[Answer]], None] = self._work
        self._model = model
        self._threads = [threading.Thread(target=work, args=pair) for pair in zip(asking, self.answers, strict=True)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, client: Client, answers: list[Answer]) -> None:
        while not self._stop.is_set():
            answers.append(client.predict(self._model, 1.0))


def value(answer: Answer) -> float:
    assert answer.status == 200, answer.body
    return float(answer.json["predictions"][0][0])


def test_replacing_under_traffic_fails_nothing_and_both_have_switched_when_it_returns(
    server: Server, repository: Path
) -> None:
    with clients(server, each=3) as ((first, *one), (other, *two)):
        before = workers(server)
        with Traffic("replaced", [*one, *two]) as traffic:
            for factor in (2, 3, 4):
                times(repository / "replaced", factor)
                assert control(server, "replaced", "load") == 200
                assert [value(client.predict("replaced", 1.0)) for client in (first, other)] == [factor] * 2
        for answers in traffic.answers:
            values = [value(answer) for answer in answers]
            assert values == sorted(values), "never back to an older one"
        until(lambda: len(workers(server)) == len(before))


def test_unloading_under_traffic_answers_until_it_is_gone(server: Server) -> None:
    with clients(server, each=2) as ((first, one), (other, two)):
        with Traffic("gone", [one, two]) as traffic:
            until(lambda: all(len(answers) > 5 for answers in traffic.answers))
            assert control(server, "gone", "unload") == 200
            assert [client.predict("gone").status for client in (first, other)] == [404] * 2
            assert control(server, "gone", "load") == 200
            assert [client.predict("gone").status for client in (first, other)] == [200] * 2
        for answers in traffic.answers:
            statuses = [answer.status for answer in answers]
            assert set(statuses) <= {200, 503, 404}
            changes = [a for a, b in pairwise(statuses) if (a == 200) != (b == 200)]
            assert len(changes) <= 2, "refused from the unload to the load, and at no other time"


def test_the_other_front_answers_by_itself(server: Server) -> None:
    with clients(server) as ((first,), (other,)):
        os.kill(first.front, signal.SIGSTOP)
        try:
            assert [value(other.predict("steady", number)) for number in range(20)] == list(range(20))
        finally:
            os.kill(first.front, signal.SIGCONT)
        assert statistics(first, "steady")["inference_count"] >= 20


@pytest.mark.slow
def test_what_only_a_first_front_that_stands_still_knows_is_refused_in_time(server: Server) -> None:
    with clients(server) as ((first,), (other,)):
        os.kill(first.front, signal.SIGSTOP)
        began = time.monotonic()
        try:
            refused = other.ask("GET", "/v2/models/steady")
        finally:
            os.kill(first.front, signal.SIGCONT)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert 5.0 < time.monotonic() - began < 15.0
        assert other.ask("GET", "/v2/models/steady").status == 200


@pytest.mark.slow
def test_another_front_that_stands_still_is_replaced(server: Server) -> None:
    with clients(server) as ((first,), (other,)):
        os.kill(other.front, signal.SIGSTOP)
        assert first.ask("GET", "/metrics").status == 200
        until(lambda: other.front not in fronts(server))
        with clients(server) as (_, (new,)):
            assert value(new.predict("steady", 5.0)) == 5.0
            os.kill(server.pid, signal.SIGSTOP)
            try:
                assert value(new.predict("steady", 6.0)) == 6.0, "it has links of its own"
            finally:
                os.kill(server.pid, signal.SIGCONT)
