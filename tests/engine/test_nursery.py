"""The template process and what it forks, for real."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.workers import PROC, children, close, fateful_model, lives, needs_proc, run, templates, until

from forwardpass.engine.link import Link
from forwardpass.engine.nursery import Nursery
from forwardpass.errors import NotReady
from forwardpass.registry import ModelLocation

pytestmark = needs_proc


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery("error")
    yield made
    close(made)
    assert templates() == []


def location(folder: Path) -> ModelLocation:
    return ModelLocation("fateful", "1", fateful_model(folder))


def test_a_worker_lives_until_its_link_closes(nursery: Nursery, folder: Path) -> None:
    async def main() -> None:
        ended: list[int] = []
        born = await nursery.fork(location(folder), 1, ended.append)
        assert lives(born.pid)
        assert born.pid in children(templates()[0])
        os.kill(born.pid, signal.SIGINT)  # Ctrl-C in the terminal reaches workers as well
        born.links[0].close()
        await until(lambda: bool(ended))
        assert ended == [0]
        assert not (PROC / str(born.pid)).exists(), "no zombie is left"

    run(nursery, main)


def test_how_a_worker_ended_is_told(nursery: Nursery, folder: Path) -> None:
    async def main() -> None:
        ended: list[int] = []
        born = await nursery.fork(location(folder), 1, ended.append)
        os.kill(born.pid, signal.SIGKILL)
        await until(lambda: bool(ended))
        assert ended == [-signal.SIGKILL]
        born.links[0].close()

    run(nursery, main)


def test_workers_compute_with_their_own_threads_and_phone_nobody(nursery: Nursery) -> None:
    environment = (PROC / str(templates()[0]) / "environ").read_bytes().split(b"\0")
    assert b"ORT_DISABLE_TELEMETRY=1" in environment
    assert b"OPENBLAS_NUM_THREADS=1" in environment


def test_a_fork_that_nobody_waits_for_any_more_ends_by_itself(nursery: Nursery, folder: Path) -> None:
    async def main() -> None:
        ended: list[int] = []
        waiting = asyncio.create_task(nursery.fork(location(folder), 1, ended.append))
        await asyncio.sleep(0)
        waiting.cancel()
        born = await nursery.fork(location(folder), 1, lambda status: None)
        await until(lambda: bool(ended))
        assert ended == [0]
        assert children(templates()[0]) == [born.pid], "the next one got its own worker"
        born.links[0].close()
        await until(lambda: not lives(born.pid))

    run(nursery, main)


def test_a_template_that_dies_is_replaced_and_whoever_waits_is_told(nursery: Nursery, folder: Path) -> None:
    async def main() -> None:
        place = location(folder)
        survivor = await nursery.fork(place, 1, lambda status: None)
        (first,) = templates()
        os.kill(first, signal.SIGSTOP)
        waiting = asyncio.create_task(nursery.fork(place, 1, lambda status: None))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(NotReady, match="template process ended"):
            await waiting
        (second,) = templates()
        assert second != first
        born = await nursery.fork(place, 1, lambda status: None)
        assert children(second) == [born.pid]
        assert lives(survivor.pid), "workers outlive their template"
        for worker in (survivor, born):
            worker.links[0].close()
            await until(lambda pid=worker.pid: not lives(pid))  # type: ignore[misc]

    run(nursery, main)


def test_closing_ends_the_template_whatever_its_workers_do(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nursery = Nursery("error")

    async def main() -> None:
        links: list[Link] = []
        for _ in range(3):
            links.append((await nursery.fork(location(folder), 1, lambda status: None)).links[0])
        (pid,) = templates()
        pids = children(pid)
        assert len(pids) == 3
        for link in links:
            link.close()
        nursery.close()
        await until(lambda: not any(map(lives, [pid, *pids])))

    run(nursery, main)
    assert "Traceback" not in capfd.readouterr().err
