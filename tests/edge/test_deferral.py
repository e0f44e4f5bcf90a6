"""Rows that a cascade could not ask about, from the cascade through the outbox to who is told of the later answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.edge.outbox.setting import Time
from tests.engine.workers import until
from tests.gateway.house import House, Local, answers, clouds, house, remote_yaml, rows
from tests.server.process import free_port

from forwardpass.edge.deferral import DOOR, Deferral
from forwardpass.edge.outbox import Kind, Level, Outbox, Privacy
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.outputs.create import create_output
from forwardpass.edge.predictor import Predictor, ask
from forwardpass.edge.rates import GOLDEN
from forwardpass.errors import NotReady
from forwardpass.server.composed import PutOff

SURE, UNSURE = 0.9, 0.6
ESCALATION = "deferred: true, timeout: 5"


@dataclass
class Device:
    """A cascade of two models, the large one of which is away until ``large`` is well, and what is told."""

    house: House
    outbox: Outbox
    deferral: Deferral
    large: Local
    file: Path
    outputs: list[Output]

    async def ask(self, *values: float, id: str = "", first: int = 0) -> str:
        """A request with rows of these values as a door has it; its id afterwards."""
        request = self.house.ask("pair", rows(*values, first=first))
        request.id = id
        await request.future
        return request.id

    async def waiting(self) -> int:
        return int((await self.outbox.counts())["waiting"]["escalation"])

    async def kept(self, number: int) -> None:
        """Until so many wait in the outbox."""
        async with asyncio.timeout(20.0):
            while await self.waiting() != number:
                await asyncio.sleep(0.005)

    async def told(self) -> list[dict[str, Any]]:
        """What the outputs were told once nothing waits any more; the large model is well now."""
        self.large.happens = answers(2)
        running = asyncio.create_task(self.deferral.run())
        await self.kept(0)
        await until(lambda: not any(output.waiting for output in self.outputs))
        running.cancel()
        await asyncio.wait({running})
        return [orjson.loads(line) for line in self.file.read_bytes().splitlines()] if self.file.exists() else []


@contextlib.asynccontextmanager
async def device(
    folder: Path, level: Level = Level.UNSURE, *, remote: str = "", webhook: str = ""
) -> AsyncIterator[Device]:
    """``remote`` is the ``model.yaml`` of a large model that lies elsewhere; ``webhook`` where nobody answers."""
    outputs = [create_output({"type": "file", "path": "told.jsonl"}, folder)]
    if webhook:
        outputs.append(create_output({"type": "webhook", "url": webhook}))
    outbox = Outbox(folder / "outbox.sqlite", privacy=Privacy(level), clock=Time().clock(), linger=0.0)
    await outbox.open()

    def defer(put_off: PutOff) -> None:
        deferral.defer(put_off)

    (folder / "models").mkdir(exist_ok=True)
    async with house(folder / "models", defer) as made:
        deferral = Deferral(made.dataplane, outputs, outbox)
        Local(made, "small", answers(1))
        large = Local(made, "large", lambda columns: NotReady("away"))
        if remote:
            made.dataplane.withdraw(large.served)
            await made.load("large", remote)
        await made.pair(ESCALATION)
        try:
            yield Device(made, outbox, deferral, large, folder / "told.jsonl", outputs)
        finally:
            await asyncio.gather(*(output.close(0.01 if webhook else 5.0) for output in outputs))
            await deferral.close()  # as the agent does it
            await outbox.close()


def test_the_rows_that_were_put_off_are_told_with_their_numbers(tmp_path: Path) -> None:
    async def main() -> None:
        async with device(tmp_path) as made:
            assert await made.ask(SURE, UNSURE, 0.1, UNSURE, SURE, id="its-id") == "its-id"
            await made.kept(1)
            (message,) = await made.told()
            assert message == {
                "id": "its-id", "source": "local", "model": "pair", "version": "1", "rows": [1, 3],
                "predictions": [{"p": [pytest.approx(UNSURE), pytest.approx(1 - UNSURE)], "who": row * 10 + 2}
                                for row in (1, 3)],
                "corrected": True, "changed": [True, True],
            }  # fmt: skip

    asyncio.run(main())


def test_a_request_without_an_id_gets_one_where_rows_of_it_are_put_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with device(tmp_path) as made:
            assert await made.ask(SURE) == ""
            drawn = [await made.ask(UNSURE), await made.ask(UNSURE)]
            assert "" not in drawn
            await made.kept(2)
            assert [message["id"] for message in await made.told()] == drawn
            assert drawn[0] != drawn[1]

    asyncio.run(main())


def test_two_requests_of_one_id_are_both_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with device(tmp_path) as made:
            for first in (0, 5):
                await made.ask(UNSURE, id="twice", first=first)
            await made.kept(2)
            told = await made.told()
            assert [(message["id"], message["predictions"][0]["who"]) for message in told] == [
                ("twice", 2), ("twice", 52)
            ]  # fmt: skip

    asyncio.run(main())


def test_an_item_of_an_input_that_is_asked_about_again_waits_once(tmp_path: Path) -> None:
    """It has the same id each time; one that the agent draws an id for is another each time."""
    item = {"x": UNSURE, "id": 3}

    async def main() -> None:
        async with device(tmp_path) as made:
            predictor = Predictor(made.house.dataplane, "pair")
            for _ in range(2):
                file = await predictor.predict([item], "folder:in#a.json", "a-file")
                line = await predictor.predict([item], "stdin")
                assert (file.id, file.stable, line.stable) == ("a-file", True, False)
            await made.kept(3)
            told = await made.told()
            assert sorted(message["source"] for message in told) == ["folder:in#a.json", "stdin", "stdin"]
            assert [message["id"] for message in told].count("a-file") == 1

    asyncio.run(main())


@pytest.mark.parametrize("door", [GOLDEN, DOOR])
def test_what_the_agent_asks_by_itself_is_not_put_off(tmp_path: Path, door: str) -> None:
    async def main() -> None:
        async with device(tmp_path) as made:
            await ask(made.house.dataplane, made.house.dataplane.model("pair"), [{"x": UNSURE, "id": 3}], door)
            await made.ask(UNSURE, id="after")
            await made.kept(1)
            assert [message["id"] for message in await made.told()] == ["after"]

    asyncio.run(main())


def test_where_no_row_may_leave_nothing_is_put_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with device(tmp_path, Level.OUTPUTS) as made:
            assert await made.ask(UNSURE) == ""
            assert (await made.outbox.counts())["lost"] == {}
            assert await made.told() == []

    asyncio.run(main())


def test_rows_that_the_disk_does_not_take_are_counted_as_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with device(tmp_path) as made:
            await made.outbox.close()
            await made.ask(UNSURE)
            async with asyncio.timeout(20.0):
                while (await made.outbox.counts())["lost"] != {"escalation": 1}:
                    await asyncio.sleep(0.005)

    asyncio.run(main())


def test_a_correction_that_one_output_has_not_got_is_told_again_at_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with device(tmp_path, webhook=f"http://127.0.0.1:{free_port()}/") as made:
            await made.ask(UNSURE, id="its-id")
            await made.kept(1)
            made.large.happens = answers(2)
            running = asyncio.create_task(made.deferral.run())
            await until(lambda: made.outputs[0].counts["sent"] == 1 and made.outputs[1].problem != "")
            running.cancel()
            await asyncio.wait({running})
        async with device(tmp_path) as made:
            assert await made.waiting() == 1
            first, again = await made.told()
            assert first == again
            assert first["id"] == "its-id"

    asyncio.run(main())


def test_a_model_elsewhere_that_is_ready_again_is_asked_at_once(tmp_path: Path) -> None:
    async def never(seconds: float) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with clouds() as (cloud,), device(tmp_path, remote=remote_yaml([cloud])) as made:
            made.house.control.on_change = made.deferral.contact  # as the agent does it
            made.deferral._deferred._sleep = never  # the pause after a failure has no end
            await cloud.die()
            await until(lambda: not made.house.dataplane.model("large").ready)
            await made.ask(UNSURE, id="its-id")
            await made.kept(1)
            running = asyncio.create_task(made.deferral.run())
            await until(lambda: "large" in made.deferral.error)
            await cloud.start()
            await made.kept(0)
            running.cancel()
            await asyncio.wait({running})
            assert [message["id"] for message in await made.told()] == ["its-id"]

    asyncio.run(main())


def test_rows_of_a_model_that_is_gone_hold_up_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with device(tmp_path) as made:
            await made.ask(UNSURE, id="its-id")
            await made.kept(1)
            await made.house.control.unload("pair")
            assert await made.told() == []
            ((_, reason),) = await made.outbox.reasons()
            assert "there is no model 'pair'" in reason
            assert await made.outbox.next((Kind.ESCALATION,), 1, 1) == []

    asyncio.run(main())
