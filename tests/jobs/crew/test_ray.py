"""Jobs on real Ray clusters on loopback: the bytes of the local engine, also where a node is killed in the middle.

Everything that imports Ray is a process of its own, as it is for users.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.models import BAD, DEADLY, judging
from tests.jobs.test_kill import contents, rejected

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (forwardpass[ray])"),
]

RUN = [sys.executable, "-m", "forwardpass", "run"]
ON_LOOPBACK = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
ROWS, PART = 2000, 100
HANGING = """
import sys
from forwardpass.jobs.crew.cluster import choose_cluster
choose_cluster("local")
import forwardpass.jobs.crew.ray as engine
import forwardpass.jobs.run as jobs
from forwardpass.jobs.job import Job

jobs.create_crew = lambda *asked: engine.RayCrew(asked[1], asked[2], "local", lease=2.0)
try:
    jobs.Run(Job(sys.argv[1], (sys.argv[2],), sys.argv[3]), jobs.Options(1), lambda snapshot: None).run()
except Exception as error:
    print(type(error).__name__, error)
"""


@dataclass(frozen=True)
class Nodes:
    """A cluster of several node processes."""

    process: subprocess.Popen[str]
    address: str

    def kill_one(self) -> None:
        """As when its power fails: all of its processes are killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert "killed" in self.process.stdout.readline()


@contextmanager
def nodes(*cpus: int) -> Iterator[Nodes]:
    command = [sys.executable, "-m", "tests.jobs.crew.ray_nodes", *map(str, cpus)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        said = [line.strip().removeprefix("address=") for line in _until(process.stdout, "address=")]
        assert said, "the cluster did not start"
        try:
            yield Nodes(process, said[-1])
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


def _until(lines: Iterable[str], start: str) -> Iterator[str]:
    """The lines as far as one that starts so."""
    for line in lines:
        yield line
        if line.startswith(start):
            return


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a data set, and what the local engine makes of it with the model ``judge``."""
    judging(tmp_path / "judge")
    values = [float(n % 50) for n in range(ROWS)]
    assert BAD in values
    pq.write_table(pa.table({"id": range(ROWS), "x": values}), tmp_path / "in.parquet", row_group_size=170)
    run(tmp_path, "local")
    return tmp_path


def command(output: str, *options: str, model: str = "judge") -> list[str]:
    return [*RUN, model, "in.parquet", output, "--part-rows", str(PART), *options]


def run(folder: Path, output: str, *options: str, model: str = "judge") -> subprocess.CompletedProcess[str]:
    asked = command(output, *options, model=model)
    return subprocess.run(asked, cwd=folder, env=ON_LOOPBACK, capture_output=True, text=True, timeout=200, check=False)


def assert_same(folder: Path, output: str) -> None:
    assert contents(folder / output) == contents(folder / "local")
    assert contents(rejected(folder / output)) == contents(rejected(folder / "local")) != {}


@contextmanager
def watched(
    folder: Path, output: str, *options: str
) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """A run, and the events that it tells."""
    with subprocess.Popen(
        [*command(output, *options), "--json"], cwd=folder, env=ON_LOOPBACK, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, (msgspec.json.decode(line) for line in process.stdout)


def slow_down(folder: Path, seconds: float) -> None:
    """The model takes its time from now on; what it answers stays the same."""
    judging(folder / "judge", delay=seconds)


def test_a_node_killed_in_the_middle_changes_no_byte(folder: Path) -> None:
    """The node does a part when it is killed. Where ``Watch`` was there too, Ray's retry counts as the first."""
    slow_down(folder, 1.0)
    assert attempts_with_a_node_killed(folder, "ray", done=2) in (1, 2)
    assert_same(folder, "ray")


def attempts_with_a_node_killed(folder: Path, output: str, done: int) -> int:
    """Run a job, kill a node once so many parts are done; the most attempts that a part took."""
    killed, last = False, 0
    with (
        nodes(1, 2, 2) as cluster,
        watched(folder, output, "--engine", "ray", "--address", cluster.address) as (process, events),
    ):
        for event in events:
            last = event.get("parts_done", last)
            if not killed and last >= done:
                cluster.kill_one()
                killed = True
        assert process.wait(30) == 0
    assert killed
    with closing(sqlite3.connect(folder / f"{output}.job" / "ledger.sqlite")) as ledger:
        return int(ledger.execute("SELECT MAX(attempts) FROM parts").fetchone()[0])


def test_a_cluster_that_was_there_goes_on_and_is_free_again(folder: Path) -> None:
    slow_down(folder, 0.4)
    with nodes(1, 2) as cluster:
        options = ["--engine", "ray", "--address", cluster.address]
        with watched(folder, "ray", *options) as (process, events):
            assert any(event.get("rows_done") for event in events)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        slow_down(folder, 0.4)
        done = run(folder, "ray", "--resume", *options)  # it gets the CPUs that the first run had
        assert done.returncode == 0, done.stderr
    assert_same(folder, "ray")


def test_a_cluster_of_its_own_says_nothing_and_ends_with_the_job(folder: Path) -> None:
    before = ray_processes()
    done = run(folder, "ray", "--engine", "ray", "--address", "local")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if " rows" not in line] == []
    assert_same(folder, "ray")
    assert wait_for_end(before) == set()


def test_a_killed_run_leaves_no_cluster_of_its_own(folder: Path) -> None:
    before = ray_processes()
    slow_down(folder, 0.4)
    with watched(folder, "ray", "--engine", "ray", "--address", "local") as (process, events):
        assert any(event.get("rows_done") for event in events)
        process.kill()
    assert wait_for_end(before) == set()
    assert run(folder, "ray", "--resume").returncode == 0  # on the other engine
    assert_same(folder, "ray")


def test_a_row_that_ends_its_worker_costs_its_part_alone(folder: Path) -> None:
    values = [1.0] * 250 + [DEADLY] + [2.0] * 149
    pq.write_table(pa.table({"id": range(400), "x": values}), folder / "in.parquet")
    done = run(folder, "ray", "--engine", "ray", "--address", "local")
    assert done.returncode == 1
    assert "1 of 4 parts (100 rows) are missing from ray; part 2: the Ray worker that did it ended" in done.stderr
    assert pq.read_table(folder / "ray")["id"].to_pylist() == [*range(200), *range(300, 400)]


def test_a_worker_that_hangs_is_given_up(folder: Path) -> None:
    slow_down(folder, 3600)
    asked = [sys.executable, "-c", HANGING, "judge", "in.parquet", "ray"]
    done = subprocess.run(asked, cwd=folder, env=ON_LOOPBACK, capture_output=True, text=True, timeout=250, check=False)
    assert done.stdout.startswith("BackendFailed 1 of 1 parts (2000 rows) are missing"), (
        done.stdout + done.stderr[-2000:]
    )
    assert "made no progress within 2 s" in done.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "nowhere"], "no Ray cluster at nowhere: "),
        (["--address", "127.0.0.1:9"], "no Ray cluster at 127.0.0.1:9: "),
        (
            ["--address", "local", "--threads", "4096"],
            "on 1 nodes: a worker needs 4096 on one node, and 1 more must stay",
        ),
    ],
)
def test_what_cannot_work_is_said(folder: Path, options: list[str], says: str) -> None:
    done = run(folder, "ray", "--engine", "ray", *options)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "ray").exists()


def test_a_model_that_cannot_be_loaded_is_said_with_the_node(folder: Path) -> None:
    (folder / "judge" / "model.onnx").write_bytes(b"not a model")
    done = run(folder, "ray", "--engine", "ray", "--address", "local")
    assert done.returncode == 1
    assert done.stderr.startswith(f"forwardpass: {os.uname().nodename}: "), done.stderr


def wait_for_end(before: set[int]) -> set[int]:
    """Those of Ray's processes that are not gone after a while."""
    end = time.monotonic() + 20
    while (left := ray_processes() - before) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def ray_processes() -> set[int]:
    """Nodes and workers. The agents of a node that was killed end by themselves, after a minute."""
    return {int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if _is_ray(path)}


def _is_ray(path: Path) -> bool:
    try:
        command = path.read_bytes()
    except OSError:
        return False
    return any(name in command for name in (b"ray::MapWorker", b"ray::IDLE", b"raylet", b"gcs_server"))
