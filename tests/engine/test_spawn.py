"""Workers as interpreters of their own: the contract of a starter, kept as the nursery keeps it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import artifacts
from tests.engine.workers import HANGS, KILLER, PROC, children, fateful_model, fleet, lives, needs_proc, run, until

from forwardpass.config import Limits
from forwardpass.engine import group
from forwardpass.engine.blank import start_blank
from forwardpass.engine.nursery import Nursery
from forwardpass.engine.spawn import Spawner
from forwardpass.engine.starter import Starter
from forwardpass.errors import BackendFailed, NotReady, TimedOut
from forwardpass.registry import ModelLocation

pytestmark = needs_proc
STARTERS = {"nursery": Nursery, "spawner": Spawner}


@pytest.fixture(params=STARTERS)
def starter(request: pytest.FixtureRequest) -> Iterator[Starter]:
    """Closed within the loop by ``close_in``; whatever is left of it fails the test."""
    before = set(children(os.getpid()))
    yield STARTERS[request.param]("critical")
    assert set(children(os.getpid())) <= before


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fateful_model(tmp_path_factory.mktemp("models") / "fateful")


def location(path: Path) -> ModelLocation:
    return ModelLocation(path.stem, "1", path)


def test_a_worker_lives_until_its_link_closes(starter: Starter, model: Path) -> None:
    async def main() -> None:
        ended: list[int] = []
        born = await starter.fork(location(model), 1, ended.append)
        os.kill(born.pid, signal.SIGINT)  # what the whole group is told does not end it
        os.kill(born.pid, signal.SIGTERM)
        await asyncio.sleep(0.05)
        assert lives(born.pid)
        born.links[0].close()
        await until(lambda: bool(ended))
        assert ended == [0]
        assert not (PROC / str(born.pid)).exists(), "no zombie is left"
        starter.close()

    run(starter, main)


def test_how_a_worker_ended_is_told(starter: Starter, model: Path) -> None:
    async def main() -> None:
        ended: list[int] = []
        born = await starter.fork(location(model), 1, ended.append)
        os.kill(born.pid, signal.SIGKILL)
        await until(lambda: bool(ended))
        assert ended == [-signal.SIGKILL]
        born.links[0].close()
        starter.close()

    run(starter, main)


def test_what_a_killed_worker_ran_is_answered_by_a_new_one(starter: Starter, model: Path) -> None:
    async def main() -> None:
        async with fleet(starter, model) as made:
            await made.until_ready()
            (first,) = made.replicas.pids
            os.kill(first, signal.SIGSTOP)
            asked = made.submit(9.0)
            await until(lambda: not made.scheduler.queued_rows)
            os.kill(first, signal.SIGKILL)
            assert (await asked.future)["y"][0, 0] == 9.0
            assert made.replicas.restarts == 1
        starter.close()

    run(starter, main)


@pytest.mark.slow
def test_a_row_that_kills_workers_fails_alone(starter: Starter, model: Path) -> None:
    async def main() -> None:
        async with fleet(starter, model) as made:
            await made.until_ready()
            asked = [made.submit(KILLER if n == 3 else float(n)) for n in range(8)]
            ends = await asyncio.gather(*(request.future for request in asked), return_exceptions=True)
            assert isinstance(ends.pop(3), BackendFailed)
            assert all(isinstance(end, dict) for end in ends)
        starter.close()

    run(starter, main)


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_and_replaced(
    starter: Starter, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "GRACE", 0.1)
    monkeypatch.setattr(group, "WATCH_EVERY", 0.05)

    async def main() -> None:
        async with fleet(starter, model, limits=Limits(timeout=0.2)) as made:
            await made.until_ready()
            (first,) = made.replicas.pids
            with pytest.raises(TimedOut):
                await made.ask(HANGS, timeout=0.2)
            await until(lambda: not lives(first))
            await made.until_ready()
            assert await made.ask(5.0) == 5.0
        starter.close()

    run(starter, main)


def test_a_model_that_cannot_be_loaded_is_told(starter: Starter, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a model")

    async def main() -> None:
        async with fleet(starter, folder) as made:
            await until(lambda: bool(made.failed) and not made.replicas.pids)
            assert "model.onnx" in made.failed[0].message
        starter.close()

    run(starter, main)


# What only the spawner has


def test_a_worker_that_was_started_before_becomes_the_first(model: Path) -> None:
    blank = start_blank()
    spawner = Spawner("critical", blank)

    async def main() -> None:
        async with fleet(spawner, model) as made:
            await made.until_ready()
            assert made.replicas.pids == [blank.process.pid]
            assert await made.ask(2.0) == 2.0
            environment = (PROC / str(blank.process.pid) / "environ").read_bytes().split(b"\0")
            assert b"ORT_DISABLE_TELEMETRY=1" in environment
            assert b"OPENBLAS_NUM_THREADS=1" in environment
        spawner.close()

    run(spawner, main)


def test_how_a_worker_ended_is_told_where_the_system_has_no_descriptors_of_processes(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    spawner = Spawner("critical")

    async def main() -> None:
        ended: list[int] = []
        born = await spawner.fork(location(model), 1, ended.append)
        os.kill(born.pid, signal.SIGKILL)
        await until(lambda: bool(ended))
        assert ended == [-signal.SIGKILL]
        born.links[0].close()
        spawner.close()

    run(spawner, main)


def test_one_that_died_before_its_order_is_replaced(model: Path) -> None:
    blank = start_blank()
    blank.process.kill()
    blank.process.wait()
    spawner = Spawner("critical", blank)

    async def main() -> None:
        with pytest.raises(NotReady, match="no worker could be started"):
            await spawner.fork(location(model), 1, lambda status: None)
        born = await spawner.fork(location(model), 1, lambda status: None)
        assert lives(born.pid)
        born.links[0].close()
        spawner.close()

    run(spawner, main)


def test_one_that_is_not_needed_ends_with_its_starter() -> None:
    blank = start_blank()
    Spawner("critical", blank).close()
    assert blank.process.ended()


def test_one_whose_starter_is_gone_ends_by_itself() -> None:
    blank = start_blank()
    blank.orders.close()
    assert blank.process.ended(within=60)
    assert blank.process.wait() == 0


# A fork. In programs of their own: this process has threads

NOISY = """
import sys
from forwardpass.pipeline import step

@step(reads=["x"], writes=["x"])
def noise(columns):
    print("noise", len(sys.stdin.read()))
    return columns
"""
SERVES = """
import os, signal, sys
from pathlib import Path
from forwardpass.engine.blank import fork_blank
blank = fork_blank()
from forwardpass.engine.spawn import Spawner
from tests.engine.workers import fleet, run
spawner = Spawner("critical", blank)

async def main():
    async with fleet(spawner, Path(sys.argv[1])) as made:
        os.kill(blank.process.pid, signal.SIGTERM)  # what the whole group is told does not end it
        await made.until_ready()
        assert made.replicas.pids == [blank.process.pid]
        print("answer", await made.ask(2.0))
    spawner.close()
    assert blank.process.wait() == 0

run(spawner, main)
print("read", sys.stdin.read())
"""
ENDS = """
import sys
from forwardpass.engine.blank import fork_blank
blank = fork_blank()
if sys.argv[1] == "a bad order":
    blank.orders.send(b"?")
else:
    blank.orders.close()
assert blank.process.ended(within=60)
print("ended", blank.process.wait())
"""


def program(text: str, *words: str) -> str:
    """What a program says that is given `rows` to read."""
    command, root = [sys.executable, "-c", text, *words], Path(__file__).parents[2]
    done = subprocess.run(command, input="rows", capture_output=True, text=True, cwd=root, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fork_becomes_the_first_and_leaves_input_and_output_alone(folder: Path) -> None:
    artifacts.identity(folder / "model.onnx")
    (folder / "steps.py").write_text(NOISY)
    (folder / "model.yaml").write_text("preprocess: [{step: noise}]\n")
    assert program(SERVES, str(folder)) == "answer 2.0\nread rows\n"


@pytest.mark.parametrize(("why", "status"), [("its front is gone", 0), ("a bad order", 1)])
def test_a_fork_that_is_no_worker_ends_and_runs_nothing_of_its_front(why: str, status: int) -> None:
    assert program(ENDS, why) == f"ended {status}\n"
