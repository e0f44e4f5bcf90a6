"""Which of several servers gets a batch, without any server."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from forwardpass.errors import NotReady
from forwardpass.gateway.balance import Balance, Server
from forwardpass.gateway.breaker import IN_A_ROW


def servers(count: int = 3, *, healthy: bool = True) -> list[Server]:
    made = [Server.at(f"http://s{index}:1", lambda: 0.0) for index in range(count)]
    for server in made:
        server.healthy = healthy
    return made


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def balance(found: list[Server], most: int = 100) -> Balance:
    return Balance(found, most, random.Random(7))


def test_the_server_with_the_fewest_rows_under_way_is_next() -> None:
    async def main() -> None:
        found = servers()
        chosen = balance(found)
        taken = [await chosen.take(rows) for rows in (5, 3, 1)]
        assert set(taken) == set(found)
        assert await chosen.take(2) is taken[2]
        assert await chosen.take(9) in (taken[1], taken[2])  # 3 and 3
        chosen.release(taken[0], 5)
        assert await chosen.take(1) is taken[0]

    run(main)


def test_ties_are_broken_at_random() -> None:
    async def main() -> None:
        found = servers()
        chosen = balance(found)
        counts: Counter[str] = Counter()
        for _ in range(300):
            server = await chosen.take(1)
            counts[server.url] += 1
            chosen.release(server, 1)
        assert min(counts.values()) > 60
        assert len(counts) == 3

    run(main)


def test_no_server_gets_more_batches_than_it_may() -> None:
    async def main() -> None:
        (server,) = servers(1)
        chosen = balance([server], most=2)
        for _ in range(2):
            await chosen.take(1)
        third = asyncio.ensure_future(chosen.take(1))
        await asyncio.sleep(0)
        assert not third.done()
        chosen.release(server, 1)
        assert await third is server
        assert server.batches == 2

    run(main)


def test_what_waits_for_room_hears_that_no_server_is_left() -> None:
    async def main() -> None:
        (server,) = servers(1)
        chosen = balance([server], most=1)
        await chosen.take(1)
        waiting = asyncio.ensure_future(chosen.take(1))
        await asyncio.sleep(0)
        server.healthy, server.reason = False, "it is gone"
        chosen.changed()
        with pytest.raises(NotReady, match="http://s0:1: it is gone"):
            await waiting

    run(main)


def test_one_that_was_tried_comes_last() -> None:
    async def main() -> None:
        found = servers(2)
        chosen = balance(found)
        first = await chosen.take(1)
        other = await chosen.take(50, [first])
        assert other is not first
        assert await chosen.take(1, found) is first  # both were tried: the less busy one

    run(main)


def test_unhealthy_servers_and_those_whose_breaker_is_open_are_left_alone() -> None:
    async def main() -> None:
        found = servers(3)
        found[0].healthy, found[0].reason = False, "no connection"
        for _ in range(IN_A_ROW):
            found[1].breaker.begin()
            found[1].breaker.failed()
        chosen = balance(found)
        assert {(await chosen.take(1)).url for _ in range(20)} == {"http://s2:1"}
        found[2].healthy = False
        with pytest.raises(NotReady, match="s0:1: no connection; http://s1:1: its last answers failed; http://s2"):
            await chosen.take(1)

    run(main)
