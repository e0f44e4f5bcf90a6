"""Loading and unloading with real workers: nothing is refused in between, nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests import artifacts
from tests.engine.workers import Awaited, children, close, needs_proc, run, templates, until

from forwardpass.config import Settings
from forwardpass.engine.nursery import Nursery
from forwardpass.errors import InvalidModel, NotFound, NotReady
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.records import Recorder
from forwardpass.server.served import State

pytestmark = needs_proc


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery("critical")
    yield made
    close(made)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two models: ``twin`` gives what it gets, ``lookup`` ten times that."""
    artifacts.identity(tmp_path / "twin" / "model.onnx")
    artifacts.lookup(tmp_path / "lookup" / "model.onnx")
    return tmp_path


def never() -> socket.socket:
    raise AssertionError("one front needs no further socket")


class House:
    """A data plane and its control."""

    def __init__(self, nursery: Nursery, *paths: Path, drain_timeout: float = 5.0) -> None:
        self.dataplane = DataPlane(Recorder(()))
        settings = Settings(drain_timeout=drain_timeout, cores=1)
        self.control = Control(self.dataplane, nursery, settings, paths, Fronts(settings, never, 0))
        self.changes = 0
        self.control.on_change = self._changed

    def _changed(self) -> None:
        self.changes += 1

    async def settled(self) -> None:
        await until(lambda: all(served.state is not State.LOADING for served in self.dataplane.all()))

    def ask(self, name: str = "twin", value: float = 1.0) -> Awaited:
        request = Awaited({"x": np.full((1, 2), value, np.float32)}, 20.0)
        self.dataplane.infer(self.dataplane.model(name), request)
        return request


@contextlib.asynccontextmanager
async def house(nursery: Nursery, *paths: Path, drain_timeout: float = 5.0) -> AsyncIterator[House]:
    """Everything under the paths loaded, or failed; all of it stopped at the end, without a process left."""
    made = House(nursery, *paths, drain_timeout=drain_timeout)
    await made.control.start()
    try:
        await made.settled()
        yield made
    finally:
        await made.control.stop()
    assert made.dataplane.all() == []
    assert children(templates()[0]) == []


def test_everything_under_the_paths_is_started(nursery: Nursery, repository: Path) -> None:
    async def main() -> None:
        async with house(nursery, repository) as made:
            made.dataplane.require_ready()
            assert [served.name for served in made.dataplane.all()] == ["lookup", "twin"]
            assert (await made.ask().future)["y"].tolist() == [[1.0, 1.0]]
            assert made.changes >= 4

    run(nursery, main)


def test_a_model_that_cannot_be_loaded_leaves_the_others_alone(nursery: Nursery, repository: Path) -> None:
    (repository / "broken").mkdir()
    (repository / "broken" / "model.onnx").write_bytes(b"not a model")
    artifacts.identity(repository / "misspelt" / "model.onnx")
    (repository / "misspelt" / "model.yaml").write_text("inputz: {}\n", encoding="utf-8")

    async def main() -> None:
        async with house(nursery, repository) as made:
            await made.ask().future
            with pytest.raises(NotReady, match=r"broken \(.*ONNX.*misspelt \(.*unknown key 'inputz'"):
                made.dataplane.require_ready()
            with pytest.raises(NotReady, match=r"'broken' version 1 is not ready: .*ONNX"):
                made.ask("broken")

    run(nursery, main)


def test_two_models_of_one_name_are_refused(nursery: Nursery, repository: Path, folder: Path) -> None:
    artifacts.identity(folder / "twin" / "model.onnx")

    async def main() -> None:
        made = House(nursery, repository, folder)
        with pytest.raises(InvalidModel, match="two models are named 'twin'"):
            await made.control.start()

    run(nursery, main)


def test_a_model_added_later_can_be_loaded(nursery: Nursery, repository: Path) -> None:
    async def main() -> None:
        async with house(nursery, repository) as made:
            with pytest.raises(NotFound, match="no model 'later'"):
                await made.control.load("later")
            artifacts.identity(repository / "later" / "model.onnx")
            await made.control.load("later")
            assert made.dataplane.model("later").ready

    run(nursery, main)


def test_loading_again_switches_without_refusing_anything(nursery: Nursery, repository: Path) -> None:
    async def main() -> None:
        async with house(nursery, repository) as made:
            old = made.dataplane.model("twin")
            loading = asyncio.create_task(made.control.load("twin"))
            asked: list[Awaited] = []
            while not loading.done():
                asked.append(made.ask(value=float(len(asked))))
                await asyncio.sleep(0.001)
            await loading
            assert made.dataplane.model("twin") is not old
            assert old.state is State.UNAVAILABLE
            assert len(asked) > 2
            for number, request in enumerate(asked):
                assert (await request.future)["y"][0, 0] == number

    run(nursery, main)


def test_the_older_state_serves_on_where_the_newer_cannot_be_loaded(nursery: Nursery, repository: Path) -> None:
    async def main() -> None:
        async with house(nursery, repository) as made:
            (repository / "twin" / "model.onnx").write_bytes(b"not a model")
            with pytest.raises(InvalidModel, match=r"'twin' cannot be loaded: .*ONNX"):
                await made.control.load("twin")
            assert made.dataplane.model("twin").ready
            await made.ask().future

    run(nursery, main)


def test_a_failed_model_keeps_its_reason_and_can_be_mended(nursery: Nursery, repository: Path) -> None:
    good = (repository / "twin" / "model.onnx").read_bytes()
    (repository / "twin" / "model.onnx").write_bytes(b"not a model")

    async def main() -> None:
        async with house(nursery, repository) as made:
            for _ in range(2):
                assert "ONNX" in made.dataplane.model("twin").reason
                with pytest.raises(InvalidModel, match="ONNX"):
                    await made.control.load("twin")
            (repository / "twin" / "model.onnx").write_bytes(good)
            await made.control.load("twin")
            await made.ask().future

    run(nursery, main)


def test_unloading_answers_what_waits_and_leaves_no_process(nursery: Nursery, repository: Path) -> None:
    async def main() -> None:
        async with house(nursery, repository) as made:
            asked = [made.ask(value=float(n)) for n in range(100)]
            await made.control.unload("twin")
            for request in asked:
                await request.future
            with pytest.raises(NotFound):
                made.ask()
            assert len(children(templates()[0])) == 1, "the other model's worker"
            with pytest.raises(NotFound):
                await made.control.unload("twin")
            await made.control.load("twin")
            await made.ask().future

    run(nursery, main)


def test_what_cannot_be_finished_in_time_is_told_so(nursery: Nursery, repository: Path) -> None:
    artifacts.slow(repository / "slow" / "model.onnx", loops=2000)

    async def main() -> None:
        async with house(nursery, repository, drain_timeout=0.05) as made:
            request = Awaited({"x": np.ones((1, 1), np.float32)}, 20.0)
            made.dataplane.infer(made.dataplane.model("slow"), request)
            await asyncio.sleep(0.02)
            await made.control.unload("slow")
            with pytest.raises(NotReady, match="'slow' is being unloaded"):
                await request.future

    run(nursery, main)


def test_versions_that_are_gone_are_stopped(nursery: Nursery, repository: Path) -> None:
    for version in "12":
        artifacts.identity(repository / "many" / version / "model.onnx")

    async def main() -> None:
        async with house(nursery, repository) as made:
            assert made.dataplane.model("many").version == "2"
            shutil.rmtree(repository / "many" / "2")
            await made.control.load("many")
            assert [served.version for served in made.dataplane.versions("many")] == ["1"]

    run(nursery, main)
