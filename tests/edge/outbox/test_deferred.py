from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.edge.outbox.cloud import Cloud as Intaken
from tests.edge.outbox.setting import Time
from tests.engine.workers import until

from forwardpass.edge.outbox import Deferred, Escalation, Kind, Level, Outbox, Privacy, Uploader
from forwardpass.edge.outbox import deferred as deferred_module
from forwardpass.edge.outbox.correction import decision
from forwardpass.edge.outbox.deferred import MOST_FAILURES, Ask
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, NotReady, TimedOut

Message = dict[str, Any]


class Cloud:
    """Doubles each number; fails as often as it is told."""

    def __init__(self, *failures: ForwardpassError) -> None:
        self.failures = list(failures)
        self.asked: list[list[Any]] = []

    async def __call__(self, escalation: Escalation) -> list[Any]:
        self.asked.append(escalation.instances)
        if self.failures:
            raise self.failures.pop(0)
        return [2 * value for value in escalation.instances]


class Receiver:
    """Keeps what is delivered, while it is ``there``; ``fail`` is raised once, before or after."""

    def __init__(self) -> None:
        self.delivered: list[Message] = []
        self.fail: BaseException | None = None
        self.there = asyncio.Event()
        self.there.set()

    async def __call__(self, message: Message) -> None:
        await self.there.wait()
        self.delivered.append(message)
        failed, self.fail = self.fail, None
        if failed is not None:
            raise failed


def rows(prediction: str, instances: list[Any], answers: list[Any], *, first: int = 0) -> Escalation:
    """Rows of a prediction, numbered from ``first``."""
    numbers = list(range(first, first + len(instances)))
    return Escalation(prediction, "mqtt:motors/7", "both", "3", numbers, instances, answers)


def told(prediction: str, answers: list[Any], changed: list[bool], *, first: int = 0) -> Message:
    """What is delivered of them."""
    return {
        "id": prediction, "source": "mqtt:motors/7", "model": "both", "version": "3",
        "rows": list(range(first, first + len(answers))), "predictions": answers, "corrected": True, "changed": changed,
    }  # fmt: skip


@contextlib.asynccontextmanager
async def deferring(
    path: Path, ask: Ask, receiver: Receiver, time: Time | None = None, level: Level = Level.UNSURE, **others: Any
) -> AsyncIterator[tuple[Deferred, Outbox]]:
    outbox = Outbox(path / "outbox.sqlite", privacy=Privacy(level), clock=(time or Time()).clock(), linger=0.0)
    await outbox.open()
    made = Deferred(outbox, ask, receiver, **others)
    try:
        yield made, outbox
    finally:
        await made.close()
        await outbox.close()


def test_rows_are_asked_about_in_order_and_told_under_their_id(tmp_path: Path) -> None:
    cloud, receiver = Cloud(), Receiver()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver) as (deferred, outbox):
            await deferred.put(rows("a", [1, 2], [2, 5], first=7))
            await deferred.put(rows("b", [3], [6]))
            assert [await deferred.ask_next() for _ in range(3)] == [2, 1, 0]
            await deferred.close()
            assert (await outbox.counts())["counts"] == {"answered_escalation": 2}
            assert (await outbox.counts())["bytes"] == 0

    asyncio.run(main())
    assert cloud.asked == [[1, 2], [3]]
    assert receiver.delivered == [told("a", [2, 4], [False, True], first=7), told("b", [6], [False])]


def test_nobody_to_ask_means_waiting(tmp_path: Path) -> None:
    cloud, receiver = Cloud(NotReady("offline"), NotReady("offline")), Receiver()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver) as (deferred, _):
            await deferred.put(rows("a", [1], [0]))
            for _ in range(2):
                with pytest.raises(NotReady):
                    await deferred.ask_next()
            assert await deferred.ask_next() == 1

    asyncio.run(main())
    assert receiver.delivered == [told("a", [2], [True])]


@pytest.mark.parametrize("failure", [OSError("broker gone"), NotReady("no webhook"), asyncio.CancelledError()])
def test_a_crash_between_answer_and_delivery_delivers_the_same_answer_without_asking_again(
    tmp_path: Path, failure: BaseException
) -> None:
    """In effect once: under one id there is one answer, however often it is told."""
    receiver = Receiver()
    receiver.fail = failure

    async def main() -> None:
        async with deferring(tmp_path, Cloud(), receiver) as (deferred, _):
            await deferred.put(rows("a", [1], [0]))
            assert await deferred.ask_next() == 1
            await deferred.close()
            with pytest.raises((NotReady, asyncio.CancelledError)):
                await deferred.ask_next()

        async def never(escalation: Escalation) -> list[Any]:
            raise AssertionError("asked again")

        async with deferring(tmp_path, never, receiver) as (deferred, _):
            assert await deferred.ask_next() == 1
            assert await deferred.ask_next() == 0

    asyncio.run(main())
    assert receiver.delivered == [told("a", [2], [True])] * 2


def test_rows_that_never_get_an_answer_do_not_hold_up_the_others(tmp_path: Path) -> None:
    crashes = [BackendFailed("the worker died")] * MOST_FAILURES
    cloud, receiver = Cloud(InvalidInput("no such class"), *crashes), Receiver()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver) as (deferred, outbox):
            for name in ("wrong", "crashes", "good"):
                await deferred.put(rows(name, [1], [0]))
            assert await deferred.ask_next() == 1
            for _ in range(MOST_FAILURES - 1):
                with pytest.raises(BackendFailed):
                    await deferred.ask_next()
            assert await deferred.ask_next() == 1
            assert await deferred.ask_next() == 1
            assert [reason for _, reason in await outbox.reasons()] == [
                "no such class",
                f"the model failed at it {MOST_FAILURES} times: the worker died",
            ]

    asyncio.run(main())
    assert receiver.delivered == [told("good", [2], [True])]


def test_an_entry_stays_until_its_correction_was_delivered(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.there.clear()

    async def main() -> None:
        async with deferring(tmp_path, Cloud(), receiver) as (deferred, outbox):
            await deferred.put(rows("a", [1], [0]))
            assert [await deferred.ask_next() for _ in range(2)] == [1, 0]  # it is under way, and not offered again
            assert (await outbox.counts())["waiting"]["escalation"] == 1
            receiver.there.set()
            await deferred.close()
            assert (await outbox.counts())["counts"] == {"answered_escalation": 1}

    asyncio.run(main())
    assert receiver.delivered == [told("a", [2], [True])]


def test_while_corrections_wait_to_be_delivered_only_so_many_more_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred_module, "MOST_TELLING", 2)
    cloud, receiver = Cloud(), Receiver()
    receiver.there.clear()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver, rate=1e9) as (deferred, outbox):
            for number in range(5):
                await deferred.put(rows(str(number), [number], [0]))
            running = asyncio.create_task(deferred.run())
            await until(lambda: deferred.error == "2 corrections wait for the outputs")
            assert cloud.asked == [[0], [1]]
            receiver.there.set()
            await until(lambda: len(receiver.delivered) == 5 and not deferred.error)
            running.cancel()
            await asyncio.wait({running})
            await deferred.close()
            assert (await outbox.counts())["counts"] == {"answered_escalation": 5}

    asyncio.run(main())


def test_an_output_that_is_away_does_not_keep_a_correction_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred_module, "MOST_TELLING", 1)
    cloud, receiver = Cloud(), Receiver()
    receiver.there.clear()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver, most_age=0.01) as (deferred, outbox):
            for number in range(2):
                await deferred.put(rows(str(number), [number], [0]))
            assert [await deferred.ask_next() for _ in range(2)] == [1, 1]
            await deferred.close()
            assert (await outbox.counts())["counts"] == {"expired_escalation": 2}

    asyncio.run(main())
    assert (cloud.asked, receiver.delivered) == ([[0], [1]], [])


class Busy:
    """Takes too long for these numbers."""

    def __init__(self, *late: int) -> None:
        self.late = set(late)
        self.asked: list[int] = []

    async def __call__(self, escalation: Escalation) -> list[Any]:
        (number,) = escalation.instances
        self.asked.append(number)
        if number in self.late:
            raise TimedOut("not answered in time")
        return [2 * number]


def test_rows_that_the_model_takes_too_long_for_give_way_and_are_set_aside(tmp_path: Path) -> None:
    cloud, receiver = Busy(0), Receiver()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver) as (deferred, outbox):
            for number in range(MOST_FAILURES):
                await deferred.put(rows(str(number), [number], [0]))
            for number in range(1, MOST_FAILURES):
                with pytest.raises(TimedOut):
                    await deferred.ask_next()
                assert await outbox.reasons() == []
                assert await deferred.ask_next() == 1
                assert cloud.asked[-2:] == [0, number]
            assert await deferred.ask_next() == 1
            assert await deferred.ask_next() == 0
            ((_, reason),) = await outbox.reasons()
            assert reason == f"the model failed at it {MOST_FAILURES} times: not answered in time"

    asyncio.run(main())
    assert [message["id"] for message in receiver.delivered] == ["1", "2", "3", "4"]


def test_a_model_that_answers_nobody_in_time_is_away_and_no_rows_are_blamed(tmp_path: Path) -> None:
    cloud, receiver = Busy(0, 1, 2), Receiver()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver) as (deferred, outbox):
            for number in range(3):
                await deferred.put(rows(str(number), [number], [0]))
            for _ in range(3 * MOST_FAILURES):
                with pytest.raises(TimedOut):
                    await deferred.ask_next()
            assert cloud.asked == [0, 1, 2] * MOST_FAILURES
            assert await outbox.reasons() == []
            cloud.late.clear()
            assert [await deferred.ask_next() for _ in range(4)] == [1, 1, 1, 0]

    asyncio.run(main())
    assert sorted(message["id"] for message in receiver.delivered) == ["0", "1", "2"]


def test_who_answers_something_else_does_not_end_the_pause_after_rows_that_took_too_long(tmp_path: Path) -> None:
    cloud = Busy(0)

    async def main() -> None:
        pausing, over = asyncio.Event(), asyncio.Event()

        async def sleep(seconds: float) -> None:
            pausing.set()
            await over.wait()

        async with deferring(tmp_path, cloud, Receiver(), sleep=sleep) as (deferred, outbox):
            await deferred.put(rows("a", [0], [0]))
            running = asyncio.create_task(deferred.run())
            await asyncio.wait_for(pausing.wait(), 20.0)
            deferred.contact()
            await deferred.put(rows("b", [1], [0]))
            for _ in range(10):  # time enough for whatever would go on
                await outbox.counts()
            assert cloud.asked == [0]
            over.set()
            await until(lambda: 1 in cloud.asked)
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(main())


def test_an_answer_for_other_rows_is_none(tmp_path: Path) -> None:
    async def short(escalation: Escalation) -> list[Any]:
        return []

    async def main() -> None:
        async with deferring(tmp_path, short, Receiver()) as (deferred, outbox):
            await deferred.put(rows("a", [1, 2], [0, 0]))
            for _ in range(MOST_FAILURES - 1):
                with pytest.raises(BackendFailed, match="asked about 2 rows, got 0 answers"):
                    await deferred.ask_next()
            assert [await deferred.ask_next() for _ in range(2)] == [1, 0]
            assert len(await outbox.reasons()) == 1

    asyncio.run(main())


def test_what_is_too_old_is_not_asked_about(tmp_path: Path) -> None:
    time, cloud = Time(), Cloud()

    async def main() -> None:
        async with deferring(tmp_path, cloud, Receiver(), time, most_age=60.0) as (deferred, outbox):
            await deferred.put(rows("old", [1], [0]))
            time.pass_by(40.0)
            await deferred.put(rows("new", [2], [0]))
            time.pass_by(30.0)
            assert await deferred.ask_next() == 1
            await deferred.close()
            assert (await outbox.counts())["counts"] == {"answered_escalation": 1, "expired_escalation": 1}

    asyncio.run(main())
    assert cloud.asked == [[2]]


def test_no_faster_than_the_rate_and_slower_after_each_failure(tmp_path: Path) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    cloud, receiver = Cloud(NotReady("x"), NotReady("x"), NotReady("x")), Receiver()

    async def main() -> None:
        async with deferring(
            tmp_path, cloud, receiver, rate=10.0, sleep=sleep, draw=lambda: 1.0
        ) as (deferred, outbox):  # fmt: skip
            await deferred.put(rows("a", [1, 2, 3], [0, 0, 0]))
            await deferred.put(rows("b", [4], [0]))
            running = asyncio.create_task(deferred.run())
            while len(receiver.delivered) < 2:
                await asyncio.sleep(0.001)
            await deferred.put(rows("c", [5], [0]))  # it wakes up for more
            while len(receiver.delivered) < 3 or await outbox.next((Kind.ESCALATION,), 1, 1):
                await asyncio.sleep(0.001)
            running.cancel()
            await asyncio.wait({running})
            assert deferred.error == ""

    asyncio.run(main())
    assert waits[:5] == [1.0, 2.0, 4.0, 0.3, 0.1]


@pytest.mark.parametrize("level", [Level.NOTHING, Level.OUTPUTS])
def test_inputs_that_may_not_leave_are_not_put(tmp_path: Path, level: Level) -> None:
    async def main() -> None:
        async with deferring(tmp_path, Cloud(), Receiver(), level=level) as (deferred, outbox):
            with pytest.raises(InvalidInput, match="escalation: may not leave this device"):
                await deferred.put(rows("a", [1], [0]))
            assert await outbox.next(tuple(Kind), 1, 1) == []

    asyncio.run(main())


def test_what_is_under_one_id_is_another_unless_it_is_asked_again(tmp_path: Path) -> None:
    """A client's id may come twice; that of a file that is asked about again after a crash means the same rows."""
    receiver = Receiver()

    async def main() -> None:
        async with deferring(tmp_path, Cloud(), receiver) as (deferred, outbox):
            for value in (1, 2):
                await deferred.put(rows("client", [value], [0]))
                await deferred.put(rows("file", [5], [10]), stable=True)
            assert (await outbox.counts())["waiting"]["escalation"] == 3
            while await deferred.ask_next():
                pass

    asyncio.run(main())
    assert receiver.delivered == [
        told("client", [2], [True]), told("file", [10], [False]), told("client", [4], [True])
    ]  # fmt: skip


@pytest.mark.parametrize("rounds", [1, 3])
def test_somebody_who_answers_ends_the_pause_after_failures(tmp_path: Path, rounds: int) -> None:
    """As often as it fails again."""
    cloud, receiver = Cloud(*[NotReady("offline")] * rounds), Receiver()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver, sleep=lambda seconds: asyncio.Event().wait()) as (deferred, _):
            await deferred.put(rows("a", [1], [2]))
            running = asyncio.create_task(deferred.run())
            await until(lambda: deferred.error == "offline")
            assert receiver.delivered == []
            async with asyncio.timeout(20.0):
                while not receiver.delivered:
                    deferred.contact()
                    await asyncio.sleep(0)
            assert len(cloud.asked) == rounds + 1
            assert receiver.delivered == [told("a", [2], [False])]
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(main())


def test_an_upload_ends_the_pause_too(taking: Intaken, device: str, tmp_path: Path) -> None:
    cloud, receiver = Cloud(NotReady("offline")), Receiver()

    async def main() -> None:
        async with deferring(tmp_path, cloud, receiver, sleep=lambda seconds: asyncio.Event().wait()) as (
            deferred,
            outbox,
        ):
            uploader = Uploader(outbox, taking.url, device, every=0.01)
            uploader.on_upload = deferred.contact
            await deferred.put(rows("a", [1], [2]))
            running = [asyncio.create_task(item.run()) for item in (deferred, uploader)]
            await until(lambda: deferred.error == "offline")
            await outbox.put(Kind.RECORD, b"{}")
            await until(lambda: len(receiver.delivered) == 1)
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"label": "a", "p": [0.6, 0.4]}, {"label": "a", "p": [0.9, 0.1]}, False),
        ({"label": "a", "p": [0.6, 0.4]}, {"label": "b", "p": [0.6, 0.4]}, True),
        ({"label": 1, "box": [1.5, 2.5]}, {"label": 1, "box": [9.0, 2.0]}, False),
        ([0.6, 0.4], [0.9, 0.1], False),
        ([0.6, 0.4], [0.4, 0.6], True),
        ([[0.6, 0.4], [0.2, 0.1]], [[0.4, 0.6], [0.2, 0.1]], True),
        (0.51, 0.97, False),
        (0.51, 0.49, True),
        (None, 0.7, True),
        (None, None, False),
        ([None, 0.1], [0.0, 0.2], False),
        (True, False, True),
        ([1, 2], [1, 3], True),
        ({"b64": "AA=="}, {"b64": "AQ=="}, True),
        ({"p": [0.6, 0.4], "q": 0.7}, {"p": [0.7, 0.3], "q": 0.2}, True),
        ([], [], False),
    ],
)
def test_an_answer_is_changed_where_it_decides_otherwise(before: Any, after: Any, changed: bool) -> None:
    assert (decision(before) != decision(after)) is changed
