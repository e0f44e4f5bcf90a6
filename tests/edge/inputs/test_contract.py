"""What every input promises, over all kinds: all is counted, bad items are told with the reason, stopped or cancelled
it ends, and nothing that was read is left without an answer."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.edge.inputs.echo import BROKEN, REFUSED, Echo
from tests.edge.mosquitto import LIMIT, mosquitto, needs_mosquitto, until

from forwardpass.edge.inputs import Input, create_input

pytestmark = pytest.mark.filterwarnings("error")


@dataclass
class Way:
    """One kind of input: ``create`` makes one that is ready to run, ``feed`` brings an item from outside."""

    create: Callable[[], Input]
    feed: Callable[[bytes], Awaitable[None]]

    def __post_init__(self) -> None:
        self.source = self.create()


@asynccontextmanager
async def mqtt(folder: Path) -> AsyncIterator[Way]:
    import aiomqtt

    async with mosquitto(folder) as broker:
        entry = {"type": "mqtt", "url": broker.url, "topics": ["motors/+"]}

        async def feed(item: bytes) -> None:
            async with aiomqtt.Client("127.0.0.1", broker.port) as client:
                await client.publish("motors/7", item, qos=1)

        async with aiomqtt.Client(
            "127.0.0.1", broker.port, identifier="forwardpass-device-1-in", clean_session=False
        ) as first:
            await first.subscribe("motors/+", qos=1)  # so that what is fed before the input runs is kept
        yield Way(lambda: create_input(entry, "device-1", folder), feed)


@asynccontextmanager
async def watched_folder(folder: Path) -> AsyncIterator[Way]:
    entry = {"type": "folder", "path": "in", "every": 0.01, "settle": 0}
    (folder / "in").mkdir()
    numbers = iter(range(1000))

    async def feed(item: bytes) -> None:
        name = f"{next(numbers):03}.json"
        (folder / f"{name}.tmp").write_bytes(item)
        (folder / f"{name}.tmp").rename(folder / "in" / name)

    yield Way(lambda: create_input(entry, "", folder), feed)


@asynccontextmanager
async def stdin(folder: Path) -> AsyncIterator[Way]:
    from forwardpass.edge.inputs.stdin import StdinConfig, StdinInput

    (read, write), (answers, answered) = os.pipe(), os.pipe()
    drain = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(answers, 4096), b"")])
    drain.start()

    async def feed(item: bytes) -> None:
        os.write(write, item + b"\n")

    try:
        yield Way(lambda: StdinInput(StdinConfig(), "", folder, read, answered), feed)
    finally:
        for descriptor in (read, write, answered):
            os.close(descriptor)
        drain.join(LIMIT)
        os.close(answers)


KINDS = [pytest.param(mqtt, marks=needs_mosquitto, id="mqtt"), pytest.param(watched_folder, id="folder"), stdin]
every_kind = pytest.mark.parametrize("kind", KINDS)


def total(source: Input) -> int:
    return sum(source.counts[name] for name in ("answered", "failed", "dropped"))


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    async with asyncio.timeout(LIMIT):
        with pytest.raises(asyncio.CancelledError):
            await task


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * LIMIT))


@every_kind
def test_every_item_is_counted_and_bad_ones_are_told_with_the_reason(kind: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind(tmp_path) as way:
            predict = Echo()
            for item in ({"a": 1}, {"instances": [2, "two"]}, REFUSED, [3, 4]):
                await way.feed(json.dumps(item).encode())
            await way.feed(b'{"cut off')
            await way.feed(b'{"instances": []}')
            task = asyncio.create_task(way.source.run(predict))
            await until(lambda: total(way.source) >= 6)
            await stop(task)
        assert way.source.counts == {"read": 6, "answered": 3, "failed": 3, "dropped": 0}
        assert predict.rows == [{"a": 1}, 2, "two", REFUSED, [3, 4]]
        reasons = [failure.reason for failure in way.source.failures]
        assert [reason[:12] for reason in reasons] == ["the model re", "not valid JS", '"instances" ']
        assert all(source.startswith(way.source.name.split(":")[0]) for source, _, _ in predict.asked)

    run(test())


@every_kind
def test_it_can_be_stopped_while_the_model_is_asked(kind: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind(tmp_path) as way:
            predict = Echo()
            predict.gate.clear()
            await way.feed(b"1")
            task = asyncio.create_task(way.source.run(predict))
            await until(lambda: bool(predict.asked))
            await stop(task)
            assert way.source.counts["answered"] == 0

    run(test())


@every_kind
def test_it_can_be_stopped_while_nothing_comes(kind: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind(tmp_path) as way:
            task = asyncio.create_task(way.source.run(Echo()))
            await asyncio.sleep(0.01)
            await stop(task)

    run(test())


@every_kind
def test_one_source_is_asked_about_one_item_after_another(kind: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind(tmp_path) as way:
            predict = Echo()
            predict.gate.clear()
            for number in range(5):
                await way.feed(b"%d" % number)
            task = asyncio.create_task(way.source.run(predict))
            await until(lambda: way.source.counts["read"] >= 1 and bool(predict.asked))
            assert predict.rows == [0]
            predict.gate.set()
            await until(lambda: total(way.source) == 5)
            assert predict.rows == [0, 1, 2, 3, 4]
            await stop(task)

    run(test())


@every_kind
def test_stopped_it_answers_what_it_has_read_and_the_next_one_the_rest(kind: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind(tmp_path) as way:
            predict = Echo()
            predict.gate.clear()
            for number in range(5):
                await way.feed(b"%d" % number)
            task = asyncio.create_task(way.source.run(predict))
            await until(lambda: bool(predict.asked))
            way.source.stop()
            await way.feed(b"5")
            predict.gate.set()
            await task
            assert total(way.source) == way.source.counts["read"] >= 1
            again = way.create()
            task = asyncio.create_task(again.run(predict))
            await until(lambda: total(way.source) + total(again) >= 6)
            again.stop()
            await task
            assert predict.rows == [0, 1, 2, 3, 4, 5]

    run(test())


@every_kind
def test_stopped_while_nothing_comes_it_ends(kind: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind(tmp_path) as way:
            task = asyncio.create_task(way.source.run(Echo()))
            await asyncio.sleep(0.01)
            way.source.stop()
            await task

    run(test())


@every_kind
def test_an_item_that_nobody_foresaw_fails_alone(kind: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind(tmp_path) as way:
            predict = Echo()
            for item in (BROKEN, 1):
                await way.feed(json.dumps(item).encode())
            task = asyncio.create_task(way.source.run(predict))
            await until(lambda: total(way.source) >= 2)
            await stop(task)
        assert way.source.counts == {"read": 2, "answered": 1, "failed": 1, "dropped": 0}
        assert "ZeroDivisionError" in way.source.failures[0].reason

    run(test())
