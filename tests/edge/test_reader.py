"""What a client sends ahead is kept, up to a bound; that it sends no more is said at once, and once more when asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from tests.engine.workers import until

from forwardpass.edge.reader import MOST_AHEAD, Reader


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Reader, socket.socket]]:
    """A reader that nobody reads, and the client that it reads from."""
    made: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    reader = Reader()
    server = await asyncio.get_running_loop().create_server(
        lambda: asyncio.StreamReaderProtocol(reader, lambda _, writer: made.set_result(writer)), "127.0.0.1", 0
    )
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        writer = await made
        try:
            yield reader, client
        finally:
            writer.transport.abort()
            server.close()
            await asyncio.sleep(0)  # the transport ends in the loop's next turn


@pytest.mark.parametrize("reset", [False, True], ids=["it ends its side", "it is gone"])
def test_the_end_is_told_behind_data_that_nobody_has_read(reset: bool) -> None:
    async def main() -> None:
        told: list[bool] = []
        async with connected() as (reader, client):
            reader.tell(told.append)
            client.sendall(b"some data")
            await until(lambda: len(reader._buffer) == 9)  # type: ignore[attr-defined]
            assert told == []
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            else:
                client.shutdown(socket.SHUT_WR)
            await until(lambda: told == [reset])
            reader.tell(told.append)
            assert told == [reset], "what is asked for before leaves first"
            await until(lambda: told == [reset, reset])
            reader.tell(None)

    asyncio.run(main())


def test_what_is_kept_has_a_bound() -> None:
    async def main() -> None:
        async with connected() as (reader, client):
            client.setblocking(False)
            sent = 0
            for _ in range(200):
                with contextlib.suppress(BlockingIOError):
                    sent += client.send(bytes(MOST_AHEAD))
                await asyncio.sleep(0)
            assert MOST_AHEAD < len(reader._buffer) <= 2 * MOST_AHEAD  # type: ignore[attr-defined]
            await reader.readexactly(sent)

    asyncio.run(main())


def test_it_parts_with_a_client_only_where_nothing_has_arrived() -> None:
    async def test() -> None:
        reader = Reader()
        here, there = socket.socketpair()
        with here, there:
            there.send(b"1")
            assert not reader.part(here), "the loop has not read it yet"
            reader.feed_data(here.recv(1))
            assert not reader.part(here), "nobody has asked for it yet"
            assert await reader.read(1) == b"1"
            assert reader.part(here)
            assert there.recv(1) == b""
            reader.feed_eof()
            assert not reader.part(here), "it has its end to tell"

    asyncio.run(test())
