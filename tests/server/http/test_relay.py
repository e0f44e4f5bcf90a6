"""The relay against first fronts that answer oddly, late or not at all. (The real one: ``server/fronts``.)"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from forwardpass.server.http.relay import Relay

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ALIVE = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Caller:
    """An ASGI request, and what was answered."""

    def __init__(
        self, *events: dict[str, Any], method: str = "POST", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.events = list(events) or [{"type": "http.request", "body": b"", "more_body": False}]
        self.scope = {
            "type": "http",
            "method": method,
            "raw_path": b"/v2/a%20b",
            "query_string": b"x=1&y=%2F",
            "headers": [(b"host", b"h:1"), *headers],
            "server": ("127.0.0.1", 80),
        }
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return self.events.pop(0)

    async def send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)

    @property
    def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        start, body = self.sent
        return start["status"], dict(start["headers"]), body["body"]


def relayed(caller: Caller, front: Behaviour | None, patience: float = 5.0) -> Caller:
    """Relay to a first front of this behaviour; None: nobody listens."""

    async def main() -> None:
        ended: list[asyncio.Task[None]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended.append(cast("asyncio.Task[None]", asyncio.current_task()))
            await (front or nothing)(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if front is None:
            server.close()
            await server.wait_closed()
        await asyncio.wait_for(Relay(port, patience, 0.3)(caller.scope, caller.receive, caller.send), 10)
        await asyncio.gather(*ended)
        server.close()

    asyncio.run(main())
    return caller


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, and says nothing, until the other side has gone."""
    while await reader.read(65536):
        pass


def says(*pieces: bytes, asked: list[bytes] | None = None) -> Behaviour:
    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        body = await reader.readexactly(length)
        if asked is not None:
            asked.append(head + body)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return front


def test_the_request_goes_on_as_it_came_but_for_its_framing() -> None:
    asked: list[bytes] = []
    parts = ({"type": "http.request", "body": part, "more_body": part != b"c"} for part in (b"a", b"b", b"c"))
    headers = [(b"transfer-encoding", b"chunked"), (b"expect", b"100-continue"), (b"x-mine", b"1"), (b"x-mine", b"2")]
    answer = b"HTTP/1.1 418 Odd\r\nDate: now\r\nx-a: 1: 2\r\nx-request-id: 7\r\ncontent-length: 2\r\n\r\nhi"
    caller = relayed(
        Caller(*parts, headers=headers), says(*(answer[at : at + 1] for at in range(len(answer))), asked=asked)
    )
    (raw,) = asked
    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == b"abc"
    assert head.split(b"\r\n") == [
        b"POST /v2/a%20b?x=1&y=%2F HTTP/1.1",
        b"host: h:1",
        b"x-mine: 1",
        b"x-mine: 2",
        b"content-length: 3",
        b"connection: close",
    ]
    assert caller.answer == (418, {b"x-a": b"1: 2", b"content-length": b"2"}, b"hi")


def test_a_request_without_a_host_gets_one() -> None:
    asked: list[bytes] = []
    caller = Caller()
    caller.scope["headers"] = []
    assert relayed(caller, says(ALIVE, asked=asked)).answer[0] == 200
    assert b"\r\nhost: 127.0.0.1:80\r\n" in asked[0]


def test_the_answer_to_head_has_a_length_and_no_body() -> None:
    caller = relayed(Caller(method="HEAD"), says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"))
    assert caller.answer == (200, {b"content-length": b"9"}, b"")


@pytest.mark.parametrize(
    "front",
    [
        None,
        says(),
        says(b"HTTP/1.1 200 OK\r\ncontent-le"),
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"),
        nothing,
    ],
    ids=["not there", "closes", "cut in its head", "cut in its body", "stands still"],
)
def test_a_first_front_that_gives_no_answer_is_unavailable(front: Behaviour | None) -> None:
    status, headers, body = relayed(Caller(), front, patience=0.1).answer
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert "does not answer" in json.loads(body)["error"]


def test_a_late_answer_is_waited_for_while_the_first_front_lives() -> None:
    asked = []

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        asked.append(line)
        if not line.startswith(b"GET /livez"):
            await asyncio.sleep(0.35)
        writer.write(ALIVE)

    assert relayed(Caller(), busy, patience=0.1).answer[0] == 200
    assert len(asked) >= 3, "it was asked whether it lives, more than once"


def test_a_body_cut_off_by_its_client_goes_nowhere() -> None:
    asked: list[bytes] = []
    events = ({"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"})
    assert relayed(Caller(*events), says(ALIVE, asked=asked)).sent == []
    assert asked == []
