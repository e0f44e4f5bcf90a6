"""HTTP as the gateway speaks it, against servers that are written byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from tests.engine.workers import until
from tests.server.process import free_port

from forwardpass.address import Address
from forwardpass.gateway.connection import MAX_ANSWER, Broken, Pool

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Some: thing\r\n\r\nhi"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@contextlib.asynccontextmanager
async def pool(talk: Talk, most_bytes: int = MAX_ANSWER) -> AsyncIterator[Pool]:
    """A pool of connections to a server that talks so on each."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Pool(Address.base(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base"), most_bytes=most_bytes)
    try:
        yield made
    finally:
        made.close()
        server.close()
        await server.wait_closed()


async def read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0] or 0)
    return head, await reader.readexactly(length)


def says(*pieces: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return talk


def test_one_connection_serves_one_request_after_the_other() -> None:
    heads: list[bytes] = []
    connections = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while True:
            head, body = await read(reader)
            heads.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async def main() -> None:
        async with pool(talk) as made:
            for size in (0, 3, 1_000_000):
                answer = await made.ask("POST", "/path", [("x-one", "two")], b"a" * size)
                assert (answer.status, answer.body) == (200, b"a" * size)
            assert len(connections) == 1
            assert heads[0].startswith(b"POST /base/path HTTP/1.1\r\nhost: 127.0.0.1:")
            assert b"x-one: two\r\n" in heads[0]
            both = await asyncio.gather(made.ask("GET", "/"), made.ask("GET", "/"))
            assert [answer.status for answer in both] == [200, 200]
            assert len(connections) == 2

    run(main)


def test_a_connection_that_the_server_closed_while_it_was_idle_is_not_used_again() -> None:
    async def main() -> None:
        async with pool(says(GOOD)) as made:
            for _ in range(3):
                answer = await made.ask("GET", "/")
                assert (answer.body, answer.headers["x-some"]) == (b"hi", "thing")
                await asyncio.sleep(0.01)  # the end arrives

    run(main)


def test_a_connection_closed_just_when_a_request_goes_out_costs_nothing() -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read(reader)
        writer.write(GOOD)
        await read(reader)  # and closes

    async def main() -> None:
        async with pool(talk) as made:
            for _ in range(3):
                assert (await made.ask("POST", "/", (), b"body")).body == b"hi"
            assert connections == 3

    run(main)


def test_what_breaks_a_second_connection_is_not_sent_again() -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"poison" not in (head := (await read(reader))[0]):
            writer.write(GOOD)
        heads.append(head)

    async def main() -> None:
        async with pool(talk) as made:
            with pytest.raises(Broken) as broken:
                await made.ask("GET", "/poison")
            assert not broken.value.second
            await made.ask("GET", "/")
            with pytest.raises(Broken) as broken:
                await made.ask("GET", "/poison")
            assert (broken.value.second, broken.value.sent, len(heads)) == (True, True, 3)

    run(main)


class Silent:
    """A server that answers ``/slow`` when ``go`` is set, and says no more on connections older than the ``cut``."""

    def __init__(self) -> None:
        self.connections = 0
        self.lost = 0  # requests that came on a silent one
        self.waiting = 0
        self.go = asyncio.Event()
        self._silent = 0

    def cut(self) -> None:
        self._silent = self.connections

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        while True:
            head, _ = await read(reader)
            if number <= self._silent:
                self.lost += 1
                await reader.read()  # until the client is gone
                return
            if b"/slow" in head:
                self.waiting += 1
                await self.go.wait()
            writer.write(GOOD)

    async def open(self, made: Pool, count: int) -> None:
        """So many connections, all idle."""
        asked = [asyncio.ensure_future(made.ask("GET", "/slow")) for _ in range(count)]
        await until(lambda: self.waiting == count)
        self.go.set()
        await asyncio.gather(*asked)
        self.go.clear()


def test_of_all_connections_that_a_silent_cut_left_one_costs_its_time() -> None:
    async def main() -> None:
        server = Silent()
        async with pool(server.talk) as made:
            await server.open(made, 4)
            server.cut()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await made.ask("GET", "/")
            async with asyncio.timeout(10):
                assert (await made.ask("GET", "/")).body == b"hi"
            assert (server.lost, server.connections) == (1, 5)

    run(main)


def test_a_connection_that_has_answered_since_is_kept() -> None:
    async def main() -> None:
        server = Silent()
        async with pool(server.talk) as made:
            await server.open(made, 2)
            left = asyncio.ensure_future(made.ask("GET", "/slow"))
            await until(lambda: server.waiting == 3)
            await made.ask("GET", "/")
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            await made.ask("GET", "/")
            assert server.connections == 2

    run(main)


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([b"HTTP/1.1 100 Continue\r\n\r\n", GOOD], b"hi"),
        ([bytes([byte]) for byte in GOOD], b"hi"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n"], b"abc"),
        ([b"HTTP/1.0 200 OK\r\n\r\nuntil", b" it closes"], b"until it closes"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    ],
)
def test_answers_come_in_many_forms(pieces: list[bytes], body: bytes) -> None:
    async def main() -> None:
        async with pool(says(*pieces)) as made:
            assert (await made.ask("GET", "/")).body == body

    run(main)


@pytest.mark.parametrize(
    ("pieces", "why", "begun"),
    [
        ([], "closed before an answer", False),
        ([b"HTTP/1.1 200 OK\r\ncontent-le"], "cut off", True),
        ([GOOD[:-1]], "cut off", True),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], "no HTTP", True),
        ([b"\x15\x03\x01\x00\x02\x02\x46" * 9], "no HTTP", True),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000], "no HTTP", True),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"z" * 5000], "more than 4096 bytes", True),
    ],
)
def test_an_answer_that_is_none_is_told_from_none_at_all(pieces: list[bytes], why: str, begun: bool) -> None:
    async def main() -> None:
        async with pool(says(*pieces), most_bytes=4096) as made:
            with pytest.raises(Broken, match=why) as broken:
                await made.ask("GET", "/")
            assert (broken.value.sent, broken.value.begun) == (True, begun)

    run(main)


def test_an_answer_given_before_the_body_was_read_is_read() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig")
        await writer.drain()
        while await reader.read(65536):  # a polite server reads on before it closes
            pass

    async def main() -> None:
        async with pool(talk) as made:
            answer = await made.ask("POST", "/", (), b"a" * 1_000_000)
            assert (answer.status, answer.body) == (413, b"big")

    run(main)


def test_where_nobody_listens_nothing_was_sent() -> None:
    async def main() -> None:
        nobody = Pool(Address.base(f"http://127.0.0.1:{free_port()}"))
        with pytest.raises(Broken, match=r"no connection: .*refused") as broken:
            await nobody.ask("GET", "/")
        assert not broken.value.sent

    run(main)


def test_a_request_given_up_closes_its_connection() -> None:
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        with contextlib.suppress(OSError):
            assert await reader.read() == b""  # until the client is gone
        ended.set()

    async def main() -> None:
        async with pool(talk) as made:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await made.ask("GET", "/")
            async with asyncio.timeout(10):
                await ended.wait()

    run(main)
