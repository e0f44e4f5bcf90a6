"""The queue before every output: never waits, bounded, in order, tried again, counted to the last message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from tests.edge.mosquitto import LIMIT, until

from forwardpass.edge.outputs.base import Undelivered
from forwardpass.edge.outputs.queue import Queue
from forwardpass.errors import NotReady

BREAKS = -100


class Sender:
    """Obeys ``Sender``: takes messages while ``open``, refuses those that say so."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.tries = 0
        self.down = False
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, message: dict[str, Any]) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.down:
            raise Undelivered("it is down", again=True)
        if message["n"] == BREAKS:
            raise ZeroDivisionError
        if message["n"] < 0:
            raise Undelivered("it refuses", again=False)
        self.taken.append(message["n"])

    async def close(self) -> None:
        self.closed = True


def no_pauses() -> Iterator[float]:
    while True:
        yield 0.0


def queue(sender: Sender, most: int = 100) -> Queue:
    return Queue("test", sender, most, no_pauses)


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * LIMIT))


async def send(output: Queue, *numbers: int) -> None:
    for number in numbers:
        await output.send({"n": number})


def test_it_never_waits_and_drops_the_oldest_where_there_is_no_more_room() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender, 3)
        sender.gate.clear()
        await send(output, 0)
        await until(lambda: sender.tries == 1)
        await send(output, *range(1, 11))
        assert (output.waiting, output.counts["dropped"]) == (4, 7)
        sender.gate.set()
        await until(lambda: output.waiting == 0)
        assert sender.taken == [0, 8, 9, 10]
        assert output.counts == {"sent": 4, "failed": 0, "dropped": 7}
        await output.close()

    run(test())


def test_it_tries_again_until_the_other_side_is_back_and_keeps_the_order() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        sender.down = True
        await send(output, 1, 2)
        await until(lambda: sender.tries > 5)
        assert output.problem == "it is down"
        sender.down = False
        await until(lambda: output.waiting == 0)
        assert (sender.taken, output.problem) == ([1, 2], "")
        await output.close()

    run(test())


def test_what_is_refused_is_counted_and_the_next_one_goes() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        await send(output, -1, 2)
        await output.close()
        assert (sender.taken, output.counts) == ([2], {"sent": 1, "failed": 1, "dropped": 0})

    run(test())


def test_closing_delivers_what_waits_and_drops_what_comes_later() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        await send(output, *range(20))
        await output.close()
        await send(output, 99)
        assert (sender.taken, sender.closed) == (list(range(20)), True)
        assert output.counts == {"sent": 20, "failed": 0, "dropped": 1}

    run(test())


def test_closing_does_not_wait_for_what_is_down(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        sender.gate.clear()
        await send(output, 1, 2, 3)
        await until(lambda: sender.tries == 1)
        await output.close(0.0)
        assert (output.waiting, output.counts["dropped"], sender.closed) == (0, 3, True)
        assert "output test ends: 3 undelivered" in caplog.text

    run(test())


def test_closing_what_never_sent_anything() -> None:
    async def test() -> None:
        sender = Sender()
        await queue(sender).close()
        assert sender.closed

    run(test())


def test_a_message_that_nobody_foresaw_is_lost_alone() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        await send(output, 1, BREAKS, 2)
        await until(lambda: sender.taken == [1, 2])
        await output.close()
        assert output.counts == {"sent": 2, "failed": 1, "dropped": 0}

    run(test())


def test_whoever_waits_for_the_end_of_a_message_is_told_when_it_was_sent_or_refused() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        sender.down = True
        waiting = [asyncio.create_task(output.deliver({"n": number})) for number in (1, -1)]
        await until(lambda: sender.tries > 5)
        assert not any(task.done() for task in waiting)
        sender.down = False
        await asyncio.gather(*waiting)
        assert (sender.taken, output.waiting) == ([1], 0)
        await output.close()
        assert output.counts == {"sent": 1, "failed": 1, "dropped": 0}

    run(test())


def test_a_message_whose_end_is_waited_for_is_not_dropped_for_others() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender, 1)
        sender.gate.clear()
        await send(output, 0)
        await until(lambda: sender.tries == 1)
        waiting = [asyncio.create_task(output.deliver({"n": number})) for number in (7, 8)]
        await asyncio.sleep(0)
        await send(output, 1, 2)
        assert (output.waiting, output.counts["dropped"]) == (4, 1)
        sender.gate.set()
        await asyncio.gather(*waiting)
        await output.close()
        assert sender.taken == [0, 7, 8, 2]

    run(test())


def test_a_message_that_nobody_waits_for_any_more_is_not_sent() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        sender.gate.clear()
        await send(output, 0)
        await until(lambda: sender.tries == 1)
        leaving = asyncio.create_task(output.deliver({"n": 1}))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        sender.gate.set()
        await output.close()
        assert sender.taken == [0]

    run(test())


def test_a_message_that_is_tried_again_is_let_go_with_whoever_waited_for_it() -> None:
    async def test() -> None:
        sender = Sender()
        sender.down = True
        output = queue(sender)
        telling = asyncio.ensure_future(output.deliver({"n": 1}))
        await until(lambda: sender.tries > 1)
        telling.cancel()
        await asyncio.wait([telling])
        await send(output, 2)
        sender.down = False
        await until(lambda: output.waiting == 0)
        assert sender.taken == [2]
        await output.close()

    run(test())


def test_whoever_waits_for_what_is_left_at_the_end_is_told_so() -> None:
    async def test() -> None:
        sender = Sender()
        output = queue(sender)
        sender.gate.clear()
        waiting = [asyncio.create_task(output.deliver({"n": number})) for number in (1, 2)]
        await until(lambda: sender.tries == 1)
        await output.close(0.0)
        for task in (*waiting, asyncio.create_task(output.deliver({"n": 3}))):
            with pytest.raises(NotReady, match="output test ends, and has not delivered it"):
                await task
        assert output.counts == {"sent": 0, "failed": 0, "dropped": 0}

    run(test())
