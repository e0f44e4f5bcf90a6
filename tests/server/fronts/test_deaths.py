"""Workers and fronts that are killed or hang: who notices, who does not, and what comes after."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests import artifacts
from tests.server.fronts.family import (
    Client,
    clients,
    control,
    everybody,
    fronts,
    needs_proc,
    sleeper,
    statistics,
    until,
    workers,
)
from tests.server.process import Server, running

pytestmark = needs_proc
TIMEOUT = 1.0


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    folder = repository
    sleeper(folder / "sleeper", "{max_batch_size: 1, timeout: 20}")
    sleeper(folder / "hurried", f"{{max_batch_size: 1, timeout: {TIMEOUT}}}")
    for name in ("twin", "breaks"):
        artifacts.identity(folder / name / "model.onnx")
    with running([folder], "--fronts", "2") as made:
        yield made


def worker_of(server: Server, client: Client, model: str) -> int:
    """The worker that another load of the model starts."""
    before = workers(server)
    assert control(server, model, "load") == 200
    (new,) = set(workers(server)) - set(before)
    return new


def test_what_a_killed_worker_ran_for_both_fronts_is_answered_once(server: Server) -> None:
    with clients(server, each=2) as ((a, b), (c, d)):
        worker = worker_of(server, a, "sleeper")
        before = statistics(a, "sleeper")["inference_count"]
        values = {a: 0.3, b: 0.01, c: 0.4, d: 0.02}
        for client, value in values.items():
            client.begin("sleeper", value)
        time.sleep(0.1)
        os.kill(worker, signal.SIGKILL)
        for client, value in values.items():
            answer = client.receive()
            assert (answer.status, answer.json) == (200, {"predictions": [[pytest.approx(value)] * 2]})
        for client in (a, c):
            found = statistics(client, "sleeper")
            assert found["inference_count"] == before + 4
            assert found["inference_stats"]["fail"]["count"] == 0
            assert found["replicas"] == {"ready": 1, "wanted": 1, "restarts": 1}


@pytest.mark.slow
def test_a_worker_that_hangs_on_a_batch_of_the_other_front_is_killed(server: Server) -> None:
    with clients(server) as ((first,), (other,)):
        worker = worker_of(server, first, "hurried")
        answer = other.predict("hurried", 600.0)
        assert answer.status == 504
        until(lambda: worker not in workers(server))
        for client in (first, other):
            assert client.predict("hurried").status == 200


def refuses(client: Client) -> bool:
    return client.predict("breaks").status == 503


def test_a_model_that_breaks_is_refused_by_both_and_either_says_why(server: Server, repository: Path) -> None:
    with clients(server) as ((first,), (other,)):
        worker = worker_of(server, first, "breaks")
        (repository / "breaks" / "model.onnx").write_bytes(b"not a model")
        os.kill(worker, signal.SIGKILL)
        for client in (first, other):
            until(partial(refuses, client))
            assert "ONNX" in client.predict("breaks").json["error"]


def test_a_front_that_is_killed_takes_its_own_clients_along_and_nothing_else(server: Server) -> None:
    with clients(server, each=2) as ((asking, busy), (lost, _)):
        for client, count in ((busy, 3), (lost, 4)):
            assert [client.predict("twin").status for _ in range(count)] == [200] * count
        before = statistics(asking, "twin")["inference_count"]
        statuses: list[int] = []
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                statuses.append(busy.predict("twin").status)

        thread = threading.Thread(target=work)
        thread.start()
        os.kill(lost.front, signal.SIGKILL)
        with pytest.raises((ConnectionError, OSError)):
            lost.predict("twin")
        until(lambda: len(fronts(server)) == 2)
        assert lost.front not in fronts(server)
        with clients(server) as (_, (new,)):
            stop.set()
            thread.join()
            assert set(statuses) == {200}
            assert [new.predict("twin").status for _ in range(2)] == [200] * 2
            until(lambda: len(workers(server)) == 3)
            assert statistics(new, "twin")["inference_count"] == before - 4 + len(statuses) + 2
            answers = [client.predict("sleeper", 0.0).status for client in (asking, new)]
            assert answers == [200] * 2


def test_when_the_first_front_is_killed_nobody_is_left(server: Server) -> None:
    with clients(server) as (_, (other,)):
        other.begin("sleeper", 0.2)
        assert len(everybody(server)) >= 6
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not everybody(server), timeout=5.0)
