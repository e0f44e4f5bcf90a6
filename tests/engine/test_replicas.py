"""Replicas as real processes: started, killed, hung, replaced; and every request answered."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests import artifacts
from tests.engine.workers import (
    HANGS,
    KILLER,
    REFUSED,
    Awaited,
    children,
    close,
    cpu_ticks,
    fateful_model,
    fleet,
    lives,
    needs_proc,
    open_files,
    run,
    templates,
    until,
)

from forwardpass.config import Limits
from forwardpass.engine import group
from forwardpass.engine import replicas as module
from forwardpass.engine.nursery import Nursery
from forwardpass.errors import BackendFailed, InvalidInput, TimedOut

pytestmark = needs_proc


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery("critical")
    yield made
    close(made)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fateful_model(tmp_path_factory.mktemp("models") / "fateful")


@pytest.fixture(autouse=True)
def no_process_is_left(nursery: Nursery) -> Iterator[None]:
    yield
    (template,) = templates()
    end = time.monotonic() + 10  # one that was ordered may be forked yet, and then hears that it is not wanted
    while children(template) and time.monotonic() < end:
        time.sleep(0.01)
    assert children(template) == []


def test_each_replica_is_a_process_and_answers(nursery: Nursery, model: Path) -> None:
    async def main() -> None:
        async with fleet(nursery, model, 2, Limits(max_batch_size=1)) as made:
            await made.until_ready()
            assert len(set(made.replicas.pids)) == 2
            assert sorted(children(templates()[0])) == sorted(made.replicas.pids)
            values = [float(value) for value in range(40)]
            assert await asyncio.gather(*map(made.ask, values)) == values
            assert len(made.observed) == 40
            batch = made.observed[0].batch
            assert batch is not None
            assert batch.times is not None
            assert 0.0 < batch.times.forward <= batch.finished - batch.started

    run(nursery, main)


def test_large_columns_come_back_whole(nursery: Nursery, folder: Path) -> None:
    path = artifacts.identity(folder / "model.onnx", shape=["N", "M"])

    async def main() -> None:
        async with fleet(nursery, path, limits=Limits(max_batch_size=4)) as made:
            await made.until_ready()
            for _ in range(3):
                asked = [Awaited({"x": np.full((1, 200_000), n, np.float32)}, 20.0) for n in range(4)]
                for request in asked:
                    made.scheduler.submit(request)
                answers = [await request.future for request in asked]
                for number, answer in enumerate(answers):
                    assert answer["y"].shape == (1, 200_000)
                    assert (answer["y"] == number).all(), "not overwritten by a later batch"

    run(nursery, main)


def test_a_users_own_error_arrives_as_its_kind(nursery: Nursery, model: Path) -> None:
    async def main() -> None:
        async with fleet(nursery, model) as made:
            await made.until_ready()
            with pytest.raises(InvalidInput, match="refused"):
                await made.ask(REFUSED)

    run(nursery, main)


def test_what_a_killed_worker_ran_is_answered_by_a_new_one(nursery: Nursery, model: Path) -> None:
    async def main() -> None:
        async with fleet(nursery, model) as made:
            await made.until_ready()
            (first,) = made.replicas.pids
            os.kill(first, signal.SIGSTOP)
            asked = [made.submit(9.0, float(n)) for n in range(4)]
            await until(lambda: not made.scheduler.queued_rows)
            waiting = made.submit(7.0)
            os.kill(first, signal.SIGKILL)
            for number, request in enumerate(asked):
                assert (await request.future)["y"][:, 0].tolist() == [9.0, number]
            assert (await waiting.future)["y"][0, 0] == 7.0
            assert made.replicas.restarts == 1
            assert first not in made.replicas.pids
            assert len(made.observed) == 5

    run(nursery, main)


@pytest.mark.parametrize("position", [0, 13, 31])
def test_a_row_that_kills_workers_fails_alone(nursery: Nursery, model: Path, position: int) -> None:
    async def main() -> None:
        async with fleet(nursery, model) as made:
            await made.until_ready()
            asked = [made.submit(KILLER if n == position else float(n)) for n in range(32)]
            ends = await asyncio.gather(*(request.future for request in asked), return_exceptions=True)
            for number, end in enumerate(ends):
                if number == position:
                    assert isinstance(end, BackendFailed)
                else:
                    assert isinstance(end, dict)
                    assert end["y"][0, 0] == number
            assert made.replicas.restarts <= 6
            assert len(made.observed) == 32

    run(nursery, main)


def test_a_worker_that_hangs_is_killed_and_replaced(
    nursery: Nursery, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "GRACE", 0.1)
    monkeypatch.setattr(group, "WATCH_EVERY", 0.05)

    async def main() -> None:
        async with fleet(nursery, model, limits=Limits(timeout=0.2)) as made:
            await made.until_ready()
            (first,) = made.replicas.pids
            with pytest.raises(TimedOut):
                await made.ask(HANGS, timeout=0.2)
            assert await made.ask(5.0) == 5.0
            assert not lives(first)

    run(nursery, main)


def test_stopping_does_not_wait_for_a_worker_that_hangs(
    nursery: Nursery, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)

    async def main() -> None:
        async with fleet(nursery, model) as made:
            await made.until_ready()
            (pid,) = made.replicas.pids
            made.submit(HANGS).future.cancel()
            await asyncio.sleep(0.05)
            await asyncio.wait_for(made.replicas.stop(), 5.0)
            await until(lambda: not lives(pid), 1.0)

    run(nursery, main)


def test_workers_outlive_their_template_and_are_replaced_by_the_next(nursery: Nursery, model: Path) -> None:
    async def main() -> None:
        async with fleet(nursery, model) as made:
            await made.until_ready()
            (first,) = made.replicas.pids
            os.kill(templates()[0], signal.SIGKILL)
            assert await made.ask(1.0) == 1.0
            os.kill(first, signal.SIGKILL)
            assert await made.ask(2.0) == 2.0
            assert children(templates()[0]) == made.replicas.pids

    run(nursery, main)


def test_a_model_that_cannot_be_loaded_is_not_tried_again(nursery: Nursery, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a model")

    async def main() -> None:
        async with fleet(nursery, folder) as made:
            await until(lambda: bool(made.failed) and not made.replicas.pids)
            assert made.failed[0].kind == "InvalidModel"
            assert "model.onnx" in made.failed[0].message
            await asyncio.sleep(0.05)
            assert len(made.failed) == 1
            assert made.replicas.restarts == 0

    run(nursery, main)


def test_a_model_whose_loading_kills_workers_is_given_up(nursery: Nursery, folder: Path) -> None:
    fateful_model(folder)
    (folder / "steps.py").write_text("import os\nos._exit(3)\n", encoding="utf-8")

    async def main() -> None:
        async with fleet(nursery, folder) as made:
            await until(lambda: bool(made.failed))
            assert "died while they loaded it (exit code 3)" in made.failed[0].message
            await asyncio.sleep(0.05)
            assert len(made.failed) == 1
            assert made.replicas.pids == []

    run(nursery, main)


def test_a_file_that_breaks_later_does_not_take_down_what_runs(nursery: Nursery, folder: Path) -> None:
    fateful_model(folder)

    async def main() -> None:
        async with fleet(nursery, folder, 2) as made:
            await made.until_ready()
            (folder / "model.onnx").write_bytes(b"not a model")
            first, second = made.replicas.pids
            os.kill(first, signal.SIGKILL)
            await until(lambda: made.replicas.pids == [second])
            await asyncio.sleep(0.1)
            assert made.failed == []
            assert await made.ask(1.0) == 1.0
            os.kill(second, signal.SIGKILL)
            await until(lambda: bool(made.failed))

    run(nursery, main)


def test_a_lack_of_files_passes(nursery: Nursery, model: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        async with fleet(nursery, model) as made:
            await made.until_ready()
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
                os.kill(made.replicas.pids[0], signal.SIGKILL)
                await until(lambda: made.replicas.restarts == 1)
                await asyncio.sleep(0.02)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await made.ask(3.0) == 3.0

    run(nursery, main)


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 10])
def test_stopping_while_workers_start(nursery: Nursery, model: Path, turns: int) -> None:
    async def main() -> None:
        async with fleet(nursery, model, 2):
            for _ in range(turns):
                await asyncio.sleep(0)
        await until(lambda: children(templates()[0]) == [])

    run(nursery, main)


def test_nothing_is_left_after_many_starts_and_stops(nursery: Nursery, folder: Path) -> None:
    path = artifacts.identity(folder / "model.onnx")

    async def main() -> None:
        files = 0
        for cycle in range(20):
            async with fleet(nursery, path) as made:
                await made.until_ready()
                assert await made.ask(float(cycle)) == cycle
            del made
            await asyncio.sleep(0)
            if cycle == 0:
                files = open_files()
        assert open_files() <= files
        assert children(templates()[0]) == []

    run(nursery, main)


def test_an_idle_worker_uses_no_cpu(nursery: Nursery, model: Path) -> None:
    async def main() -> None:
        async with fleet(nursery, model) as made:
            await made.until_ready()
            await made.ask(1.0)
            await asyncio.sleep(0.05)
            pids = [*made.replicas.pids, *templates()]
            before = [cpu_ticks(pid) for pid in pids]
            await asyncio.sleep(0.5)
            used = [cpu_ticks(pid) - start for pid, start in zip(pids, before, strict=True)]
            assert max(used) <= 1, "in hundredths of a second"

    run(nursery, main)
