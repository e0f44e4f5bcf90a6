"""What follows a prediction: in order, bounded, and never the prediction's problem."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from forwardpass.edge.prediction import Prediction
from forwardpass.edge.reactions import Reactions


def prediction(number: int) -> Prediction:
    return Prediction(str(number), "http", 0.0, "m", "1", [number], [number])


@contextlib.asynccontextmanager
async def running(reactions: Reactions) -> AsyncIterator[None]:
    task = asyncio.create_task(reactions.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def test_all_followers_are_told_of_all_in_order() -> None:
    async def main() -> None:
        reactions = Reactions()
        told: list[tuple[str, str]] = []
        for name in "ab":

            async def follow(item: Prediction, name: str = name) -> None:
                told.append((name, item.id))

            reactions.follow(follow)
        async with running(reactions):
            for number in range(3):
                reactions.note(lambda number=number: prediction(number), 0)  # type: ignore[misc]
            assert reactions.waiting == 3
            await asyncio.wait_for(reactions.flush(), 10)
        assert told == [(name, str(number)) for number in range(3) for name in "ab"]

    asyncio.run(main())


def test_what_finds_no_room_drops_the_oldest_and_is_counted() -> None:
    async def main() -> None:
        reactions = Reactions(most=3)
        told: list[str] = []

        async def follow(item: Prediction) -> None:
            told.append(item.id)

        reactions.follow(follow)
        for number in range(5):
            reactions.note(lambda number=number: prediction(number), 0)  # type: ignore[misc]
        assert (reactions.waiting, reactions.dropped) == (3, 2)
        async with running(reactions):
            await asyncio.wait_for(reactions.flush(), 10)
        assert told == ["2", "3", "4"]

    asyncio.run(main())


def test_what_is_too_large_together_drops_the_oldest_and_one_alone_is_told() -> None:
    async def main() -> None:
        reactions = Reactions(most_bytes=100)
        told: list[str] = []

        async def follow(item: Prediction) -> None:
            told.append(item.id)

        reactions.follow(follow)
        async with running(reactions):
            for number, nbytes in enumerate((60, 50, 40, 20)):
                reactions.note(lambda number=number: prediction(number), nbytes)  # type: ignore[misc]
            assert (reactions.waiting, reactions.dropped) == (2, 2)
            await asyncio.wait_for(reactions.flush(), 10)
            reactions.note(lambda: prediction(4), 1000)
            await asyncio.wait_for(reactions.flush(), 10)
        assert told == ["2", "3", "4"]

    asyncio.run(main())


def test_a_follower_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        reactions = Reactions()
        told: list[str] = []

        async def fails(item: Prediction) -> None:
            raise ValueError("no")

        async def follow(item: Prediction) -> None:
            told.append(item.id)

        reactions.follow(fails)
        reactions.follow(follow)

        def broken() -> Prediction:
            raise ValueError("cannot be made")

        async with running(reactions):
            reactions.note(broken, 0)
            reactions.note(lambda: prediction(1), 0)
            await asyncio.wait_for(reactions.flush(), 10)
        assert told == ["1"]
        assert reactions.failed == 2

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())


def test_nothing_is_made_where_nobody_follows() -> None:
    reactions = Reactions()
    reactions.note(lambda: pytest.fail("nobody wants it"), 0)
    assert reactions.waiting == 0
