"""Items that wait: in order by key, bounded over all keys, and to an end."""

from __future__ import annotations

import asyncio

from forwardpass.edge.inputs.lanes import Lanes


def test_of_more_than_fit_the_oldest_of_all_goes() -> None:
    lanes: Lanes[int] = Lanes(4, 3)
    dropped = [lanes.put(f"key {number % 3}", number) for number in range(7)]
    assert dropped == [None, None, None, 0, 1, 2, 3]


def test_one_key_may_fill_all_of_it() -> None:
    lanes: Lanes[int] = Lanes(4, 8)
    assert [lanes.put("key", number) for number in range(8)] == [None] * 8


def test_a_lane_ends_when_it_is_empty() -> None:
    async def test() -> list[int | None]:
        lanes: Lanes[int] = Lanes(1, 8)
        (lane,) = lanes.lanes
        first = asyncio.ensure_future(lane.next())
        await asyncio.sleep(0)
        for number in range(3):
            lanes.put("key", number)
        lanes.end()
        return [await first, await lane.next(), await lane.next(), await lane.next()]

    assert asyncio.run(asyncio.wait_for(test(), 30.0)) == [0, 1, 2, None]
