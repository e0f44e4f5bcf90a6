"""Requests leave together where they come together; whoever is alone, or comes late, does not wait for nobody."""

from __future__ import annotations

import asyncio

from forwardpass.server.grpc.call import Call, StreamedCall
from forwardpass.server.grpc.company import LONGEST, MOST, Company


def request() -> Call:
    return StreamedCall(lambda call, answer: None)


class Departures:
    """Company and what has left it."""

    def __init__(self) -> None:
        self.company = Company()
        self.left: list[Call] = []

    def come(self) -> Call:
        call = request()
        self.company.join(call, lambda left: self.left.append(left))
        return call

    def answer(self) -> int:
        """Answer all that has left; returns how many."""
        left, self.left = self.left, []
        for _ in left:
            self.company.left()
        return len(left)

    async def gather(self) -> None:
        """Many come at once and are answered; nobody is left."""
        while self.company.goal < MOST:
            self.come()
        await asyncio.sleep(4 * LONGEST)
        for _ in range(MOST):
            self.come()
        self.answer()
        assert self.company.goal == MOST

    async def crowd(self, clients: int, rounds: int) -> list[int]:
        """Clients that send again when they are answered; how many left together each round."""
        sizes: list[int] = []
        waiting = clients
        while len(sizes) < rounds:
            for _ in range(waiting):
                self.come()
                if self.left:
                    break
                waiting -= 1
            while not self.left:
                await asyncio.sleep(LONGEST / 4)
            sizes.append(self.answer())
            waiting = clients
        return sizes


def test_one_caller_never_waits() -> None:
    async def main() -> None:
        made = Departures()
        for _ in range(100):
            call = made.come()
            assert made.left == [call]
            made.answer()

    asyncio.run(main())


def test_a_crowd_soon_leaves_together() -> None:
    async def main() -> None:
        made = Departures()
        made.come()
        made.come()  # two under way at once: there is company
        for _ in range(2 * MOST):
            made.come()
        assert made.answer() > MOST
        sizes = await made.crowd(clients=64, rounds=100)
        assert max(sizes) == MOST
        assert sizes[-1] == MOST

    asyncio.run(main())


def test_whoever_comes_late_waits_a_moment_and_no_more() -> None:
    async def main() -> None:
        made = Departures()
        await made.gather()
        call = made.come()
        assert made.left == []  # many came together so far
        await asyncio.sleep(4 * LONGEST)
        assert made.left == [call]
        made.answer()
        second = made.come()
        assert made.left == [second]  # it has learnt

    asyncio.run(main())


def test_a_request_that_ended_while_it_waited_does_not_leave() -> None:
    async def main() -> None:
        made = Departures()
        await made.gather()
        made.come().done = True
        await asyncio.sleep(4 * LONGEST)
        assert made.left == []

    asyncio.run(main())
