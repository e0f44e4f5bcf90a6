"""From one slot to another with real workers: nothing is refused meanwhile, and what is not well is taken back."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest
from tests import artifacts
from tests.edge.devices import Device, Factory, device, run
from tests.engine.workers import children, close, needs_proc, templates, until
from tests.gateway.test_served import classifier, write

from forwardpass.edge.deployment import Deployed
from forwardpass.edge.door import Door
from forwardpass.edge.home import Home
from forwardpass.edge.probation import Ask, T
from forwardpass.edge.settings import AgentSettings, WatchSettings
from forwardpass.edge.slots import Slot
from forwardpass.engine.nursery import Nursery
from forwardpass.engine.replicas import Replicas
from forwardpass.errors import InvalidModel, InvalidSettings
from forwardpass.gateway.compose import create_composer
from forwardpass.server.served import ServedModel

pytestmark = needs_proc
SPECIAL = 666.0  # a value that the models below do strange things with

STEPS = """
    import os, time
    from forwardpass.errors import InvalidInput
    from forwardpass.pipeline import step

    @step(reads=["x"], writes=["x"])
    def fate(columns):
        x = columns["x"]
        if (x == {special}).any():
            {what}
        return {{"x": x}}
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery("critical")
    yield made
    close(made)


@pytest.fixture(autouse=True)
def no_process_is_left(nursery: Nursery) -> Iterator[None]:
    yield
    assert children(templates()[0]) == []


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    return Factory(tmp_path)


def model(folder: Path, what: str = "pass", more: str = "", numbers: int = 2) -> Path:
    """``y = x`` of two numbers; with the special value it does ``what``. ``more`` is for its ``model.yaml``."""
    made = folder / f"v{len(list(folder.iterdir()))}" / "twin"
    artifacts.identity(made / "model.onnx", shape=("N", numbers))
    (made / "steps.py").write_text(dedent(STEPS).format(special=SPECIAL, what=what), encoding="utf-8")
    (made / "model.yaml").write_text(f"preprocess: [{{step: fate}}]\n{more}", encoding="utf-8")
    return made


def slots(
    factory: Factory, old: str = "pass", new: str = "pass", more: str = "", numbers: int = 2
) -> tuple[Slot, Slot]:
    """Of two versions; ``numbers`` is how many the new one takes."""
    first = factory.install(Home(factory.folder / "one"), model(factory.folder, old, more))
    return first, factory.install(Home(factory.folder / "two"), model(factory.folder, new, more, numbers))


class Clock:
    """Of a deployment: it stands still, so that a watch ends when a test says so."""

    now = 1000.0

    def __init__(self, made: Device) -> None:
        made.deployment._clock = self

    def __call__(self) -> float:
        return self.now


async def watched(made: Device, slot: Slot) -> asyncio.Task[str]:
    """A switch that has come to where the new version answers and is watched."""
    switching = asyncio.create_task(made.deployment.switch(slot))
    await until(lambda: made.deployment.watch is not None or switching.done())
    assert not switching.done()
    return switching


Post = Callable[[list[Any]], Awaitable[tuple[int, dict[str, Any]]]]


class Watcher:
    """What the agent is to its door."""

    def __init__(self, made: Device) -> None:
        self._made = made

    def answered(self, *told: object) -> None:
        pass

    async def ask(self, served: ServedModel, ask: Ask[T]) -> tuple[ServedModel, T]:
        return await self._made.deployment.ask(served, ask)


@contextlib.asynccontextmanager
async def http_door(made: Device) -> AsyncIterator[Post]:
    """Asks for one row over HTTP: status and body."""
    endpoints = cast(Any, None)  # of no use to predictions
    door = Door(made.dataplane, AgentSettings(), endpoints, Watcher(made))
    made.control.on_change = door.rebuild
    door.rebuild()
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await door.start(sock)

    def post(row: list[Any]) -> tuple[int, dict[str, Any]]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("POST", "/v1/models/twin:predict", json.dumps({"instances": [row]}))
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    try:
        yield lambda row: asyncio.to_thread(post, row)
    finally:
        await door.stop(5.0)


class Traffic:
    """Asks all the time; what it was answered is checked at once."""

    def __init__(self, made: Device) -> None:
        self.answered = 0
        self._made = made
        self._task = asyncio.create_task(self._ask())

    async def __aenter__(self) -> Traffic:
        await until(lambda: self.answered > 2 or self._task.done())
        return self

    async def __aexit__(self, *args: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert self._task.cancelled(), self._task.exception()

    async def _ask(self) -> None:
        while True:
            got = await self._made.predictor.predict([[1.0, 2.0]], "test")
            assert got.error is None, got.error
            self.answered += 1
            await asyncio.sleep(0.002)


def pids(made: Device) -> list[int]:
    return cast(Replicas, made.dataplane.model("twin").replicas).pids


def test_a_good_version_takes_over_without_a_gap(nursery: Nursery, factory: Factory) -> None:
    first, second = slots(factory)

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=0.2)) as made:
            await made.start(first, golden=True)
            before = pids(made)
            async with Traffic(made) as traffic:
                switching = asyncio.create_task(made.deployment.switch(second))
                await until(lambda: made.deployment.watch is not None or switching.done())
                assert made.deployment.watch is not None
                assert len(children(templates()[0])) == 2, "the old one lives while the new one is watched"
                assert await switching == ""
                seen = traffic.answered
                await until(lambda: traffic.answered > seen)
            assert pids(made) != before
            assert children(templates()[0]) == pids(made)
            assert made.deployment.running is not None
            assert made.deployment.running.slot is second

    run(nursery, main)


def test_one_that_answers_golden_rows_otherwise_never_answers(nursery: Nursery, factory: Factory) -> None:
    first, second = slots(factory)
    golden = second.folder / second.manifest.golden
    said = json.loads(golden.read_text())
    said["predictions"][3] = [17.0, 4.0]
    golden.write_text(json.dumps(said))

    async def main() -> None:
        async with device(nursery) as made:
            await made.start(first)
            before = pids(made)
            async with Traffic(made):
                why = await made.deployment.switch(second)
            assert "golden rows otherwise" in why
            assert "row 3" in why
            assert pids(made) == before == children(templates()[0])
        async with device(nursery) as made:
            with pytest.raises(InvalidModel, match="golden rows otherwise"):
                await made.start(second, golden=True)
            assert not made.dataplane.models
            assert not children(templates()[0])

    run(nursery, main)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda slot: (slot.models / "twin" / "1" / "model.onnx").write_bytes(b"x"), "model.onnx"),
        (lambda slot: (slot.models / "twin" / "1" / "steps.py").write_text("import os\nos._exit(3)\n"), "exit code 3"),
        (lambda slot: (slot.folder / "models").rename(slot.folder / "gone"), "no such file"),
    ],
)
def test_one_that_cannot_be_loaded_never_answers(
    nursery: Nursery, factory: Factory, spoil: Callable[[Slot], object], reason: str
) -> None:
    first, second = slots(factory)
    spoil(second)

    async def main() -> None:
        async with device(nursery) as made:
            await made.start(first)
            async with Traffic(made):
                assert reason in await made.deployment.switch(second)
        async with device(nursery) as made:
            with pytest.raises(Exception, match=reason):
                await made.start(second)

    run(nursery, main)


@pytest.mark.parametrize(
    ("what", "reason"),
    [("os._exit(1)", "worker died"), ("raise RuntimeError('no')", "predictions failed (5.0% allowed)")],
)
def test_one_that_fails_later_is_taken_back_and_nobody_notices(
    nursery: Nursery, factory: Factory, what: str, reason: str
) -> None:
    """The old one answers for it, also what the new one died of."""
    first, second = slots(factory, new=what)

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=3, crashes=0)) as made:
            await made.start(first)
            before = pids(made)
            switching = await watched(made, second)
            assert pids(made) != before
            async with Traffic(made):
                while not switching.done():
                    got = await made.predictor.predict([[SPECIAL, 2.0]], "test")
                    assert (got.error, got.answers) == (None, [[SPECIAL, 2.0]])
            assert reason in await switching
            assert pids(made) == before
            assert made.deployment.running is not None
            assert made.deployment.running.slot is first

    run(nursery, main)


def test_one_that_errs_as_much_as_the_one_before_is_kept(nursery: Nursery, factory: Factory) -> None:
    first, second = slots(factory, "raise RuntimeError('no')", "raise RuntimeError('no')")

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=4)) as made:
            await made.start(first)
            clock = Clock(made)

            async def ask() -> None:
                for row in ([1.0, 2.0], [3.0, 4.0], [SPECIAL, 1.0], [SPECIAL, 2.0]):
                    got = await made.predictor.predict([row], "test")
                    assert (got.error is None) == (SPECIAL not in row)

            await ask()
            made.dataplane.recorder.flush()
            switching = await watched(made, second)
            await ask()
            clock.now += 61.0
            assert await switching == ""

    run(nursery, main)


REFUSES = "raise InvalidInput('no')"


@pytest.mark.parametrize("row", [[SPECIAL, 1.0], [1.0], ["a", "b"]])
@pytest.mark.parametrize("door", ["http", "input"])
def test_rows_that_both_versions_refuse_say_nothing_against_the_new_one(
    nursery: Nursery, factory: Factory, door: str, row: list[Any]
) -> None:
    first, second = slots(factory, REFUSES, REFUSES)

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=3)) as made, http_door(made) as post:
            await made.start(first)
            clock = Clock(made)
            switching = await watched(made, second)
            for _ in range(4):
                if door == "http":
                    assert (await post(row))[0] == 400
                else:
                    assert (await made.predictor.predict([row], "test")).error
            clock.now += 61.0
            assert await switching == ""

    run(nursery, main)


@pytest.mark.parametrize(("new", "numbers"), [(REFUSES, 2), ("pass", 3)])
@pytest.mark.parametrize("door", ["http", "input"])
def test_rows_that_only_the_new_version_refuses_are_answered_and_it_is_taken_back(
    nursery: Nursery, factory: Factory, door: str, new: str, numbers: int
) -> None:
    """By a step of it, or because it takes other rows at all."""
    first, second = slots(factory, new=new, numbers=numbers)
    row = [SPECIAL, 1.0]

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=3)) as made, http_door(made) as post:
            await made.start(first)
            switching = await watched(made, second)
            for _ in range(3):
                if door == "http":
                    assert await post(row) == (200, {"predictions": [row]})
                else:
                    assert (await made.predictor.predict([row], "test")).answers == [row]
            assert "100.0% of 3 predictions failed" in await asyncio.wait_for(switching, 30)

    run(nursery, main)


def test_one_that_is_too_slow_is_taken_back(nursery: Nursery, factory: Factory) -> None:
    first, second = slots(factory, new="time.sleep(0.05)")

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=3, p99=0.04)) as made:
            await made.start(first)
            switching = asyncio.create_task(made.deployment.switch(second))
            while not switching.done():
                assert (await made.predictor.predict([[SPECIAL, 1.0]], "test")).error is None
            assert "99 of 100 predictions took" in await switching

    run(nursery, main)


def test_one_that_times_out_is_too_slow_by_default(nursery: Nursery, factory: Factory) -> None:
    first, second = slots(factory, new="time.sleep(0.3)", more="limits: {timeout: 0.1}\n")

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=1, more_errors=1.0)) as made:
            await made.start(first)
            switching = await watched(made, second)
            got = await made.predictor.predict([[SPECIAL, 1.0]], "test")
            assert "not answered within 0.1 s" in str(got.error)
            assert "(100.0 ms allowed)" in await asyncio.wait_for(switching, 30)

    run(nursery, main)


def test_an_agent_that_stops_meanwhile_leaves_nothing(nursery: Nursery, factory: Factory) -> None:
    first, second = slots(factory)

    async def main() -> None:
        for moment in (0.0, 0.05, 0.3):
            async with device(nursery, WatchSettings(seconds=60.0)) as made:
                await made.start(first)
                switching = asyncio.create_task(made.deployment.switch(second))
                await asyncio.sleep(moment)
                switching.cancel()
                await asyncio.wait({switching})
            await until(lambda: children(templates()[0]) == [])

    run(nursery, main)


def test_an_agent_that_stops_in_a_take_back_runs_the_old_version_to_its_end(nursery: Nursery, factory: Factory) -> None:
    """What the new one still had is answered, and the new one alone is ended."""
    first, second = slots(factory, new="time.sleep(0.3)")

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=1, p99=0.2)) as made:
            await made.start(first)
            before = pids(made)
            switching = await watched(made, second)

            def stop(deployed: Deployed) -> None:
                if deployed.slot is first:
                    switching.cancel()

            made.deployment._on_change = stop
            asked = [asyncio.create_task(made.predictor.predict([[SPECIAL, float(n)]], "test")) for n in range(40)]
            await asyncio.wait({switching})
            assert switching.cancelled()
            assert [(await got).error for got in asked] == [None] * 40
            assert made.deployment.running is not None
            assert made.deployment.running.slot is first
            assert children(templates()[0]) == pids(made) == before
            assert (await made.predictor.predict([[1.0, 2.0]], "test")).answers == [[1.0, 2.0]]

    run(nursery, main)


def test_a_model_of_another_name_may_take_over(nursery: Nursery, factory: Factory) -> None:
    first = factory.install(Home(factory.folder / "one"), model(factory.folder))
    artifacts.identity(factory.folder / "other" / "model.onnx")
    second = factory.install(Home(factory.folder / "two"), factory.folder / "other")

    async def main() -> None:
        async with device(nursery) as made:
            await made.start(first)
            assert await made.deployment.switch(second) == ""
            assert [served.name for served in made.dataplane.all()] == ["other"]

    run(nursery, main)


# Models that are made of others


def cascade(folder: Path, sharpness: float) -> Path:
    """A classifier that asks one elsewhere, which is out of reach."""
    made = folder / f"v{len(list(folder.iterdir()))}"
    classifier(made / "small" / "model.onnx", sharpness)
    write(
        made,
        both="cascade: [small, large]\nescalation: {confidence: probabilities, threshold: 0.99, timeout: 5}\n",
        large="remote: {urls: ['http://127.0.0.1:9']}\n",
    )
    return made / "both"


def test_a_cascade_takes_over_while_what_it_asks_is_out_of_reach(nursery: Nursery, factory: Factory) -> None:
    rows = [[0.0, 0.5, 0.25]]
    first = factory.install(Home(factory.folder / "one"), cascade(factory.folder, 1.0), rows)
    second = factory.install(Home(factory.folder / "two"), cascade(factory.folder, 2.0), rows)

    async def main() -> None:
        async with device(nursery, composer=create_composer()) as made:
            await made.start(first, golden=True)
            before = await made.predictor.predict(rows, "test")
            assert (before.error, before.provisional) == (None, True)
            assert await made.deployment.switch(second) == ""
            after = await made.predictor.predict(rows, "test")
            assert (after.error, after.provisional) == (None, True)
            assert after.confidence is not None
            assert before.confidence is not None
            assert after.confidence > before.confidence, "it is the new first model that answers"

    run(nursery, main)


def test_a_cascade_whose_first_model_is_not_well_is_refused(nursery: Nursery, factory: Factory) -> None:
    rows = [[0.0, 0.5, 0.25]]
    first = factory.install(Home(factory.folder / "one"), cascade(factory.folder, 1.0), rows)
    second = factory.install(Home(factory.folder / "two"), cascade(factory.folder, 2.0), rows)
    (second.models / "small" / "1" / "model.onnx").write_bytes(b"x")

    async def main() -> None:
        async with device(nursery, composer=create_composer()) as made:
            await made.start(first)
            assert "model.onnx" in await made.deployment.switch(second)
            assert (await made.predictor.predict(rows, "test")).error is None

    run(nursery, main)


def test_a_member_here_that_cannot_be_loaded_is_not_left_out(nursery: Nursery, factory: Factory) -> None:
    folder = factory.folder / "models"
    classifier(folder / "small" / "model.onnx", 1.0)
    classifier(folder / "large" / "model.onnx", 9.0)
    write(folder, both="cascade: [small, large]\nescalation: {confidence: probabilities, threshold: 0.99}\n")
    slot = factory.install(Home(factory.folder / "one"), folder / "both", [[0.0, 0.5, 0.25]])
    (slot.models / "large" / "1" / "model.onnx").write_bytes(b"x")

    async def main() -> None:
        async with device(nursery, composer=create_composer()) as made:
            with pytest.raises(InvalidModel, match=r"large cannot be loaded: .*model\.onnx"):
                await made.start(slot)

    run(nursery, main)


def test_what_this_device_lacks_is_no_fault_of_a_version(nursery: Nursery, factory: Factory) -> None:
    first, second = slots(factory)

    def refuse(*told: object) -> None:
        raise InvalidSettings("needs a broker")

    async def main() -> None:
        async with device(nursery) as made:
            await made.start(first)
            made.deployment._check = refuse
            before = pids(made)
            with pytest.raises(InvalidSettings, match="needs a broker"):
                await made.deployment.switch(second)
            assert pids(made) == before == children(templates()[0])

    run(nursery, main)


def test_a_device_that_has_nothing_to_compose_with_says_so(nursery: Nursery, factory: Factory) -> None:
    slot = factory.install(Home(factory.folder / "one"), cascade(factory.folder, 1.0), [[0.0, 0.5, 0.25]])

    async def main() -> None:
        async with device(nursery) as made:
            with pytest.raises(InvalidModel, match="not offered here"):
                await made.start(slot)

    run(nursery, main)


def test_errors_are_those_that_a_caller_was_given(nursery: Nursery, factory: Factory) -> None:
    first, _ = slots(factory)
    (factory.folder / "newer" / "twin").mkdir(parents=True)
    newer = model(factory.folder, "raise RuntimeError('no')").rename(factory.folder / "newer" / "twin" / "2")
    second = factory.install(Home(factory.folder / "three"), newer)

    async def main() -> None:
        async with device(nursery, WatchSettings(seconds=60.0, predictions=3)) as made:
            await made.start(first)
            switching = await watched(made, second)
            while not switching.done():
                assert (await made.predictor.predict([[SPECIAL, 2.0]], "test")).error is None
            assert "predictions failed" in await switching
            made.dataplane.recorder.flush()
            assert (made.rates.errors, made.rates.last_minute().errors) == (0, 0.0)
            assert made.rates.predictions > 2

    run(nursery, main)
