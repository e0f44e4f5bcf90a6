"""Workers that die, steps that fail, full queues, passed deadlines, clients that leave, stopping under load."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import pytest
from tests import artifacts
from tests.server.http.raw import Answer, Wire, ask, eventually, post, quiet, request, sample
from tests.server.process import Server, running

RAISE, HANG, DIE, SHORTEN, BAD_ROW = 1001.0, 1002.0, 1003.0, 1004.0, 1005.0
STEPS = f"""
import os, pathlib, time
from forwardpass import step
from forwardpass.errors import InvalidRows

@step(reads=["x"], writes=["x"])
def act(columns, *, journal: str = ""):
    x = columns["x"]
    if journal:
        with open(journal, "a") as file:
            file.write("".join(f"{{value:.0f}}\\n" for value in x[:, 0]))
    if {RAISE} in x: raise ValueError("the step's own words")
    if {HANG} in x: time.sleep(1000)
    if {DIE} in x: os._exit(3)
    if {SHORTEN} in x: return {{"x": x[:-1]}}
    if {BAD_ROW} in x: raise InvalidRows({{row: "no good" for row in range(len(x)) if x[row, 0] == {BAD_ROW}}})
    if (x < 1).any(): time.sleep(float(x.sum()))
    return {{"x": x}}
"""


def model(folder: Path, limits: str = "{}", journal: str = "''") -> None:
    """``y = x``; below 1, after ``x`` seconds; above 1000, with trouble."""
    artifacts.identity(folder / "model.onnx", "FP32", ("N", 1))
    (folder / "steps.py").write_text(STEPS)
    (folder / "model.yaml").write_text(f"limits: {limits}\npreprocess: [{{step: act, journal: {journal}}}]\n")


def infer(name: str, value: float, **parameters: int) -> bytes:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}
    return post(f"/v2/models/{name}/infer", {"inputs": [tensor], "parameters": parameters})


def value(answer: Answer) -> float:
    assert answer.status == 200, answer
    return float(answer.json["outputs"][0]["data"][0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    model(folder / "trouble")
    model(folder / "hangs", "{timeout: 0.5}")
    model(folder / "queue", "{max_queue_size: 4, max_batch_size: 1}")
    artifacts.identity(folder / "calm" / "model.onnx", "FP32", ("N", 1))
    with running([folder]) as server:
        yield server


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with Wire(server.port) as wire:
        yield wire
        assert value(ask(server.port, infer("calm", 5))) == 5


def test_a_step_that_raises_fails_its_own_request_alone(wire: Wire) -> None:
    wire.send(b"".join(infer("trouble", v) for v in (2, RAISE, 3, BAD_ROW, 4)))
    fine, raised, also_fine, bad, last = wire.answers(5)
    assert [value(answer) for answer in (fine, also_fine, last)] == [2, 3, 4]
    assert (raised.status, bad.status) == (500, 400)
    assert "step 'act' failed: ValueError: the step's own words" in raised.error
    assert "no good" in bad.error


def test_a_step_that_loses_rows_gives_nobody_the_wrong_ones(wire: Wire) -> None:
    wire.send(b"".join(infer("trouble", v) for v in (2, 3, SHORTEN, 4)))
    answers = wire.answers(4)
    assert [value(answers[i]) for i in (0, 1, 3)] == [2, 3, 4]
    assert answers[2].status == 500
    assert "0 rows" in answers[2].error
    assert "1 came in" in answers[2].error


def test_a_row_that_kills_workers_fails_alone(server: Server, wire: Wire) -> None:
    with quiet(server.log):
        wire.send(b"".join(infer("trouble", DIE if v == 4 else v) for v in range(1, 9)))
        answers = wire.answers(8)
        killer = answers.pop(3)
        assert [value(answer) for answer in answers] == [1, 2, 3, 5, 6, 7, 8]
        assert killer.status == 500
        assert "died" in killer.error


def test_a_step_that_hangs_is_answered_for_and_its_worker_replaced(server: Server, wire: Wire) -> None:
    with quiet(server.log):
        started = monotonic()
        answer = wire.send(infer("hangs", HANG)).answer()
        assert answer.status == 504
        assert "0.5 s" in answer.error
        assert monotonic() - started < 5
        assert ask(server.port, request("GET", "/v2/models/hangs/ready")).status in (200, 503)
        again = eventually(lambda: (found := ask(server.port, infer("hangs", 7))).status == 200 and found)
        assert value(again) == 7


def test_a_callers_own_deadline(wire: Wire) -> None:
    wire.send(infer("trouble", 0.4, timeout=50_000))
    answer = wire.answer()
    assert answer.status == 504
    assert "0.05 s" in answer.error
    assert "running" in answer.error
    wire.send(infer("trouble", 0.4) + infer("trouble", 5, timeout=20_000))  # its worker is still at the first
    first, second = wire.answers(2)
    assert (round(value(first), 3), second.status) == (0.4, 504)


def test_a_full_queue_refuses_and_nobody_else_notices(server: Server) -> None:
    with quiet(server.log), Wire(server.port) as busy, Wire(server.port) as more:
        busy.send(infer("queue", 0.75))
        eventually(lambda: idle_rows(server) == 0 and running_batches(server, busy))
        more.send(b"".join(infer("queue", v) for v in range(2, 12)))
        answers = more.answers(10)
        assert [answer.status for answer in answers] == [200] * 4 + [503] * 6
        assert [value(answer) for answer in answers[:4]] == [2, 3, 4, 5]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers[4:])
        assert "queue is full: 4 rows" in answers[-1].error
        assert value(busy.answer()) == 0.75


def idle_rows(server: Server) -> float:
    return sample(server.port, "forwardpass_queue_rows", model="queue")


def running_batches(server: Server, busy: Wire) -> bool:
    """Whether what ``busy`` sent has left the queue: it was read before this scrape was."""
    return sample(server.port, "forwardpass_batches_by_reason", model="queue") >= 1


def test_what_nobody_waits_for_any_more_does_not_run(server: Server) -> None:
    def cancelled() -> float:
        return sample(server.port, "forwardpass_requests_total", model="trouble", outcome="cancelled")

    def batches() -> float:
        return sample(server.port, "forwardpass_batches_by_reason", model="trouble")

    with quiet(server.log), Wire(server.port) as busy:
        before, ran = cancelled(), batches()
        busy.send(infer("trouble", 0.9))
        eventually(lambda: batches() == ran + 1)
        with Wire(server.port) as leaves:
            leaves.send(b"".join(infer("trouble", v) for v in range(2, 7)))
            eventually(lambda: sample(server.port, "forwardpass_queue_rows", model="trouble") == 5)
        eventually(lambda: sample(server.port, "forwardpass_queue_rows", model="trouble") == 0)
        assert value(busy.answer()) == pytest.approx(0.9)
        assert (cancelled() - before, batches() - ran) == (5, 1)


# Processes that are killed


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers; each test leaves as many behind."""
    model = tmp_path_factory.mktemp("models") / "calm"
    artifacts.identity(model / "model.onnx", "FP32", ("N", 1))
    with running([model], "--replicas", "2") as server:
        yield server


def restarted(server: Server, times: int) -> bool:
    return sample(server.port, "forwardpass_worker_restarts") >= times and ready(server) == 2


def ready(server: Server) -> float:
    return sample(server.port, "forwardpass_replicas_ready")


def load(server: Server, first: int, stop: Event) -> int:
    """Ask until told to stop, eight in flight; every answer must be the one to its own question."""
    asked = 0
    with Wire(server.port) as wire:
        while not stop.is_set():
            values = [float(first + asked + i) for i in range(8)]
            wire.send(b"".join(infer("calm", v) for v in values))
            assert [value(answer) for answer in wire.answers(8)] == values
            asked += 8
    return asked


def test_workers_killed_under_load_lose_and_mix_up_nothing(two: Server) -> None:
    (template,) = children(two.pid)
    eventually(lambda: ready(two) == 2)
    already = sample(two.port, "forwardpass_requests_total")
    stop = Event()
    with quiet(two.log), ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, two, 1_000_000 * i, stop) for i in range(4)]
        try:
            before = int(sample(two.port, "forwardpass_worker_restarts"))
            for kills in range(before + 1, before + 4):
                os.kill(children(template)[0], signal.SIGKILL)
                eventually(functools.partial(restarted, two, kills))
        finally:
            stop.set()
        asked = sum(item.result() for item in loads)
        assert sample(two.port, "forwardpass_requests_total") - already == asked


def test_the_template_killed(two: Server) -> None:
    (template,) = children(two.pid)
    eventually(lambda: ready(two) == 2)
    workers = children(template)
    before = int(sample(two.port, "forwardpass_worker_restarts"))
    with quiet(two.log):
        os.kill(template, signal.SIGKILL)
        assert value(ask(two.port, infer("calm", 3))) == 3
        eventually(lambda: children(two.pid) not in ([], [template]))
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: restarted(two, before + 2))
        assert value(ask(two.port, infer("calm", 4))) == 4


def test_the_template_and_its_workers_killed_together(two: Server) -> None:
    (template,) = children(two.pid)
    eventually(lambda: ready(two) == 2)
    before = int(sample(two.port, "forwardpass_worker_restarts"))
    for pid in (*children(template), template):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: restarted(two, before + 2))
    assert value(ask(two.port, infer("calm", 4))) == 4


# Stopping


def test_sigterm_under_load_loses_no_admitted_request(tmp_path: Path) -> None:
    """What has no answer was never run; what was answered was answered whole and right."""
    journal = tmp_path / "ran"
    model(tmp_path / "models" / "calm", journal=str(journal))
    with running([tmp_path / "models"]) as server, quiet(server.log), ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(until_closed, server.port, 100_000 * (i + 1), 1 + i % 4 * 2) for i in range(8)]
        eventually(lambda: journal.exists() and journal.read_text().count("\n") > 200)
        server.process.terminate()
        assert server.process.wait(20) == 0
        unanswered = {v for item in loads for v in item.result()}
        ran = set(map(int, journal.read_text().split()))
        assert not unanswered & ran


def until_closed(port: int, first: int, pipelined: int) -> list[int]:
    """Ask until the server is gone; returns what had no answer."""
    number = first
    while True:
        try:
            wire = Wire(port)
        except (ConnectionRefusedError, ConnectionResetError):
            return []
        with wire:
            closed = False
            while not closed:
                values = list(range(number, number + pipelined))
                number += pipelined
                try:
                    wire.send(b"".join(infer("calm", v) for v in values))
                    while values:
                        answer = wire.answer()
                        assert value(answer) == values.pop(0)
                        closed = answer.headers.get("connection") == "close"
                except (EOFError, ConnectionResetError, BrokenPipeError) as end:
                    if isinstance(end, EOFError) and not str(end).endswith("b''"):
                        raise  # in the middle of an answer
                    return values


def test_answers_under_way_are_waited_for_and_then_it_exits(tmp_path: Path) -> None:
    model(tmp_path / "models" / "calm")
    with running([tmp_path / "models"]) as server, Wire(server.port) as wire, Wire(server.port) as idle:
        idle.send(request("GET", "/livez")).answer()
        wire.send(infer("calm", 0.5) + request("GET", "/readyz") + infer("calm", 2))
        eventually(lambda: sample(server.port, "forwardpass_batches_by_reason") == 1)
        server.process.terminate()
        assert idle.at_end()
        first, ready, second = wire.answers(3)
        assert (round(value(first), 3), ready.status, value(second)) == (0.5, 503, 2)
        assert "stopping" in ready.error
        assert wire.at_end()
        assert server.process.wait(20) == 0


def test_a_connection_used_a_moment_ago_is_not_closed_at_once(tmp_path: Path) -> None:
    """Its client may be about to send again: it stays for half a second after SIGTERM."""
    model(tmp_path / "models" / "calm")
    with running([tmp_path / "models"]) as server, Wire(server.port) as wire:
        sleep(0.8)  # the clock of connections goes by the second
        assert value(wire.send(infer("calm", 1)).answer()) == 1
        stopped = monotonic()
        server.process.terminate()
        assert wire.at_end()
        assert monotonic() - stopped >= 0.5
        assert server.process.wait(20) == 0


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    model(tmp_path / "models" / "calm")
    with running([tmp_path / "models"]) as server, Wire(server.port) as wire:
        wire.send(infer("calm", HANG))
        eventually(lambda: sample(server.port, "forwardpass_batches_by_reason") == 1)
        (template,) = children(server.pid)
        server.process.terminate()
        eventually(lambda: "stopping" in server.log.read_text())
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 1
        assert wire.at_end()
        eventually(lambda: not Path(f"/proc/{template}").exists())
