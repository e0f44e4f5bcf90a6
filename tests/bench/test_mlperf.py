"""LoadGen drives a real server, its verdict is read as it was given, and the ideal server is what theory says."""

from __future__ import annotations

import math
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench.answers import WrongAnswer, compare
from bench.mlperf import scenario, search, table
from bench.mlperf.queueing import Queue
from bench.mlperf.samples import BadAnswer, Samples, _elements
from bench.mlperf.scenario import Outcome, Scenario
from bench.mlperf.visit import Most, Place, Visit, floats
from bench.table import MARKER
from tests import artifacts
from tests.server.process import Server, running

INPUTS = [[0.5 * row + 0.01 * column for column in range(64)] for row in range(10)]
PLACE = Place("one core", {0}, {1})
SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : PyFastSUT
Scenario : Server
Completed samples per second    : {rate}
Result is : {verdict}
  Performance constraints satisfied : Yes
  Early stopping satisfied: NO
50.00 percentile latency (ns)   : 2156360
90.00 percentile latency (ns)   : 3156360
max_query_count : 0
logs in /home/someone/build/logs
"""


def samples(width: int = 10) -> Samples:
    rows = tuple(struct.pack("<64f", *row) for row in INPUTS)
    return Samples("affine", "x", "FP32", (64,), rows, width, tuple(map(tuple, INPUTS)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    artifacts.affine(folder / "affine" / "model.onnx")
    artifacts.identity(folder / "bytes" / "model.onnx", "BYTES", ("N", 1))
    with running([folder]) as server:
        yield server


@pytest.mark.parametrize(
    "asked",
    [
        Scenario("SingleStream", 0.2, 10_000, 0.9),
        Scenario("MultiStream", 0.2, 10_000, 0.9, rows=4, least=2),
        Scenario("Server", 0.3, 100, 0.5, bound=10.0),
        Scenario("Offline", 0.01, 5_000, rows=4),
    ],
    ids=lambda asked: asked.name,
)
def test_every_scenario_runs(server: Server, tmp_path: Path, asked: Scenario) -> None:
    outcome = scenario.run(asked, samples(), server.port, tmp_path)
    assert not outcome.errors
    assert f"Scenario : {asked.name}" in outcome.summary
    assert "No errors encountered" in outcome.summary
    assert 0 < outcome.latency(50) <= outcome.latency(99) < 10
    if asked.name == "Server":
        assert outcome.valid
        assert outcome.in_bound
        assert 20 < outcome.rate < 500
    if asked.name == "Offline":
        assert outcome.rate > 55 / 5


@pytest.mark.parametrize("rows", [1, 4])
def test_answers_belong_to_their_samples(server: Server, tmp_path: Path, rows: int) -> None:
    got = scenario.run_accuracy(samples(), server.port, tmp_path, rows)
    wanted = np.array(INPUTS, np.float32) @ artifacts.weights(64, 10) + 1
    assert sorted(got) == list(range(len(INPUTS)))
    for index, row in got.items():
        compare(floats(row), wanted[index].tolist())
    with pytest.raises(WrongAnswer):
        compare(floats(got[0]), wanted[1].tolist())


def test_texts_are_sent_as_elements(server: Server, tmp_path: Path) -> None:
    words = ("four", "ü12", "last")  # of four bytes each, as if they were floats
    rows = _elements(word.encode() for word in words)
    asked = Samples("bytes", "x", "BYTES", (1,), rows, 2, words)
    got = scenario.run_accuracy(asked, server.port, tmp_path, rows=2)
    assert got == dict(enumerate(rows))


def test_a_wrong_shape_and_a_refusal_are_no_valid_run(server: Server, tmp_path: Path) -> None:
    asked = Scenario("Server", 0.2, 100, 0.5, bound=10.0)
    short = scenario.run(asked, samples(width=9), server.port, tmp_path)
    missing = scenario.run(asked, replace(samples(), model="missing"), server.port, tmp_path)
    assert "Result is : VALID" in short.summary
    assert not short.valid
    assert not short.in_bound
    assert list(short.errors) == ["40 bytes of data, expected 1 rows of 36"]
    assert list(missing.errors) == ["status 404"]


def test_loadgen_ends_where_the_server_dies(tmp_path: Path) -> None:
    path = artifacts.affine(tmp_path / "affine" / "model.onnx")
    with running([path.parent]) as server:
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {server.pid}"])
        outcome = scenario.run(Scenario("SingleStream", 1, 10_000), samples(), server.port, tmp_path / "log")
        killer.wait()
    assert outcome.errors["no connection is left"] > 0
    assert not outcome.valid


def test_answers_without_binary_data_are_bad() -> None:
    with pytest.raises(BadAnswer, match="without binary"):
        samples().answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2", b"{}", 1)


@pytest.mark.parametrize("limit", [10, 37, 99, 300])
def test_search_finds_the_limit(limit: float) -> None:
    found = search.bracket(50, 1.3, lambda rate: rate <= limit, halvings=3)
    assert found is not None
    assert limit / 1.3 ** (1 / 8) <= found <= limit


def test_search_finds_nothing_where_nothing_holds() -> None:
    assert search.bracket(50, 1.3, lambda rate: False, halvings=3) is None
    assert search.bracket(50, 1.3, lambda rate: True, halvings=3) == pytest.approx(50 * 1.3**7)


def test_confirm_steps_down() -> None:
    assert search.confirm(100, lambda rate: rate, lambda rate: rate < 90, tries=4) == pytest.approx(85)
    assert search.confirm(100, lambda rate: rate, lambda rate: rate < 10, tries=4) is None


def waits_at_most(load: float, services: float) -> float:
    """Of an M/D/1 queue: the share of requests that wait no longer than so many service times (Erlang)."""
    terms = (
        (load * (j - services)) ** j / math.factorial(j) * math.exp(-load * (j - services))
        for j in range(int(services) + 1)
    )
    return (1 - load) * math.fsum(terms)


def test_the_ideal_server_is_an_m_d_1_queue() -> None:
    queue = Queue(0.0, 0.01, bound=0.04, arrivals=20_000)
    load = queue.most(0.01, drops=False) / queue.offline()
    assert queue.offline() == pytest.approx(100)
    assert waits_at_most(load, 3) == pytest.approx(0.99, abs=0.002)
    assert 0.44 < load < 0.49


def test_two_ideal_replicas_and_dropping_reach_more() -> None:
    one = Queue(0.002, 0.008, bound=0.04, arrivals=3_000)
    two = replace(one, servers=2)
    shares = [q.most(0.01, drops=drops) / q.offline() for q in (one, two) for drops in (False, True)]
    assert shares[0] < shares[1] < 0.8  # out of reach for one core, in any order
    assert shares[0] < shares[2] < shares[3] < 1


def test_offline_runs_the_best_batches() -> None:
    assert Queue(0.01, 0.001, bound=1, servers=2).offline() == pytest.approx(2 * 32 / 0.042)


def visit(rate: float = 64.2, verdict: str = "VALID") -> Visit:
    outcome = Outcome(SUMMARY.format(rate=rate, verdict=verdict))
    found = Visit("text", PLACE, outcomes={"SingleStream": outcome, "Server": outcome})
    found.outcomes["Offline"] = Outcome("Samples per second: 128.4\nResult is : VALID\n")
    found.scenarios["Server"] = Scenario("Server", 20, rate, 0.99, 0.0086)
    found.most = Most(60.0, 70.0, 128.4)
    return found


def test_figures_are_loadgens_own() -> None:
    outcome = visit().outcomes["Server"]
    assert (outcome.rate, outcome.latency(50)) == (64.2, 0.00215636)
    assert outcome.valid
    assert not visit(verdict="INVALID").outcomes["Server"].valid


def test_the_section_says_whether_the_target_is_met() -> None:
    text = table.render({"date": "today"}, [visit()], ["a note"])
    assert "0.5 (0.5 to 0.5) | **missed** | an ideal server: 0.47, 0.55" in text
    assert "| 2.16 | 3.16 |  | 128.4 | p99: 8.6 | 64.2 | 0.50 | 60 (0.47) | 70 (0.55) |" in text
    assert "pass" in table.render({}, [visit(rate=110)], [])
    missing = Visit("text", PLACE, failed="no answer")
    assert "**not measured** | no answer" in table.render({}, [missing], [])


def test_kept_summaries_are_short_and_name_no_path(tmp_path: Path) -> None:
    table.keep(tmp_path, [visit()])
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    assert file.name == "text-one-core.txt"
    assert "Result is : VALID" in text
    assert "/home" not in text
    assert "max_query_count" not in text
    assert "====" not in text


def test_writing_keeps_all_other_words(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{MARKER}\n\nfigures\n")
    table.write(page, "one")
    table.write(page, "two")
    assert page.read_text() == f"before\n\n{table.BEGIN}\n\ntwo\n{table.END}\n\n{MARKER}\n\nfigures\n"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="neither"):
        table.write(page, "x")


def test_the_page_has_its_place() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert page.index(table.BEGIN) < page.index(table.END) < page.index(MARKER)


def test_sigterm_is_heard_while_loadgen_runs(server: Server, tmp_path: Path) -> None:
    program = (
        "import signal, sys; from pathlib import Path; from bench.mlperf import scenario; "
        "from tests.bench.test_mlperf import samples; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); "
        "print('ready', flush=True); "
        "asked = scenario.Scenario('SingleStream', 30, 10_000); "
        f"run = lambda: scenario.run(asked, samples(), {server.port}, Path({str(tmp_path)!r})); "
        "scenario.run_program(run)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
