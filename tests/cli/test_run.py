"""``forwardpass run`` as its user sees it: what it prints, its exit status, and being stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from tests import artifacts
from tests.jobs.models import BAD, DEADLY, judging

from forwardpass.cli.run import Stop, stoppable

COMMAND = [sys.executable, "-m", "forwardpass", "run"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judging(tmp_path_factory.mktemp("models") / "judge", delay=0.01)


def source(tmp_path: Path, values: Sequence[float]) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": range(len(values)), "x": pa.array(values, pa.float64())}), path)
    return path


def run(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=60)


def test_lines_for_people_and_nothing_on_stdout(model: Path, tmp_path: Path) -> None:
    done = run(model, source(tmp_path, [1.0, BAD, 2.0]), tmp_path / "out.csv", "--keep", "id")
    assert (done.returncode, done.stdout) == (0, "")
    assert "0 %  0 of 3 rows" in done.stderr
    assert f"2 rows in {tmp_path}/out.csv, 1 rejected ({tmp_path}/out.csv.job/rejected)" in done.stderr
    assert (tmp_path / "out.csv").read_text() == "id,y\n0,1\n2,2\n"


def test_events_for_programs(model: Path, tmp_path: Path) -> None:
    done = run(model, source(tmp_path, [1.0] * 10), tmp_path / "out", "--part-rows", 5, "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events[-1:]] == ["done"]
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert events[0]["rows"] == 10
    assert events[-1]["manifest"]["rows_out"] == 10


def test_what_is_missing_is_said_in_one_line_with_exit_status_1(model: Path, tmp_path: Path) -> None:
    failed = run(model, source(tmp_path, [1.0, 2.0, DEADLY]), tmp_path / "out", "--part-rows", 1)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("forwardpass: 1 of 3 parts (1 rows) are missing from")
    refused = run(model, tmp_path / "in.parquet", tmp_path / "out", "--part-rows", 1, "--json")
    assert json.loads(refused.stdout)["event"] == "failed"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--map", "x"], "is not INPUT=COLUMN"),
        (["--max-rejected", "half"], "neither a number of rows nor a percentage"),
        (["--max-rejected", "0.5"], "neither a number of rows nor a percentage"),
        (["--where", "x = 1"], "written `==`"),
        (["--keep", "idd"], "Did you mean 'id'?"),
        (["--format", "xml"], "unknown format 'xml'"),
    ],
)
def test_flags_that_make_no_sense(model: Path, tmp_path: Path, flags: list[str], says: str) -> None:
    refused = run(model, source(tmp_path, [1.0]), tmp_path / "out", *flags)
    assert refused.returncode in (1, 2)
    assert says in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_keeps_what_is_done_and_goes_on(model: Path, tmp_path: Path, signum: signal.Signals) -> None:
    place = [str(model), str(source(tmp_path, [1.0] * 400)), str(tmp_path / "out")]
    asked = [*place, "--part-rows", "4", "--workers", "1"]
    process = subprocess.Popen([*COMMAND, *asked], stderr=subprocess.PIPE, text=True)
    while len(list((tmp_path / "out").glob("part-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signum)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped; what is done is kept" in said
    done = len(list((tmp_path / "out").glob("part-*")))
    assert 2 <= done < 100
    assert run(*asked, "--resume").returncode == 0
    assert pq.read_table(tmp_path / "out").num_rows == 400


def test_an_input_that_is_left_out_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "fill"
    artifacts.identity(folder / "model.onnx", shape=("N",))
    inputs = "x: {type: number}, note: {type: text, required: false}"
    (folder / "model.yaml").write_text(f"inputs: {{{inputs}}}\n")
    done = run(folder, source(tmp_path, [1.0]), tmp_path / "out")
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "no column for note: left out, as not required")


def test_stopped_where_a_library_makes_something_else_of_the_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as end, stoppable() as stop:
        interrupt_and_swallow(stop)
    assert end.value.exit_code == 130
    assert "stopped; what is done is kept" in capsys.readouterr().err


def interrupt_and_swallow(stop: Stop) -> None:
    with suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    stop.check()
