"""Fuzz target: one HTTP connection, both lanes, fed any bytes in any pieces.

The first byte chooses how the rest is cut. The same bytes go to a connection whose door has seen
such heads before, in one piece, and to one whose door has not, in pieces: both must give the same
answers in the same order. Nothing raises, nothing is a 500, and the last word is the last.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["forwardpass.server", "forwardpass.scheduler"]):
    import asyncio
    import functools
    import random
    from typing import Any

    import numpy as np
    import uvicorn
    import uvloop
    from tests.fuzz.models import SIGNATURES, Twin, served
    from tests.fuzz.runner import fuzz
    from tests.fuzz.v2_requests import as_binary, as_json
    from uvicorn.server import ServerState

    from forwardpass.config import Settings
    from forwardpass.scheduler import Scheduler
    from forwardpass.server.dataplane import DataPlane
    from forwardpass.server.http.connection import Connection
    from forwardpass.server.http.door import Door
    from forwardpass.server.records import Recorder
    from forwardpass.server.served import clock

np.seterr(over="raise")  # as the server does
Answers = list[tuple[int, dict[str, str], bytes]]


class Pipe(asyncio.Transport):
    """Keeps what is written, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = self.closed = False

    def write(self, data: Any) -> None:
        if self.ended:
            FAILURES.append(f"written after the end: {data!r}")  # an application's task would swallow an exception
        elif not self.closed:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The other lane: reads the body and says how long it was, or answers for ``/livez`` without reading it."""
    size, more = 0, not scope["path"].startswith("/livez")
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d" % size
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class Front:
    """A door with its models and an application, in this process and on this loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        plane = DataPlane(Recorder(()))
        self.door = Door(plane, Settings())
        for name in SIGNATURES:
            model = served(name)
            observe = functools.partial(plane.recorder, model)
            batched = model.signature.batched
            model.scheduler = Scheduler(model.limits, batched, clock, loop, observe, self.door.flush)
            model.scheduler.attach(Twin(model.scheduler, loop))
            plane.models[name] = {"1": model}
        self.door.rebuild()
        self.config = uvicorn.Config(application, ws="none", lifespan="off", log_config=None, access_log=False)
        self.config.load()
        self.state = ServerState()

    async def answers(self, pieces: list[bytes], between: bool) -> tuple[Answers, Pipe]:
        """What comes back for these pieces; ``between``: also while they arrive."""
        pipe = Pipe()
        connection = Connection(self.door, config=self.config, server_state=self.state, app_state={}, _loop=self.loop)
        connection.connection_made(pipe)
        for piece in pieces:
            if not pipe.closed:
                connection.data_received(piece)
            if between:
                await asyncio.sleep(0)
        await self._settle(connection)
        answers = read(pipe.written)
        connection.connection_lost(None)
        return answers, pipe

    async def _settle(self, connection: Connection) -> None:
        for _ in range(2000):
            if not (connection.exchanges or connection.pipeline or self.state.tasks):
                return
            waits = connection.receiving and not connection.exchanges  # a body that does not arrive
            await asyncio.sleep(0)
            if waits and not connection.pipeline:
                for _ in range(20):
                    await asyncio.sleep(0)
                return
        raise AssertionError("requests are left without an answer")


def read(data: bytes) -> Answers:
    """The answers, each whole."""
    found: Answers = []
    while data:
        head, gap, data = data.partition(b"\r\n\r\n")
        assert gap, "an answer is cut off"
        line, *lines = head.decode("latin-1").split("\r\n")
        status = int(line.removeprefix("HTTP/1.1 ")[:3])
        headers = dict(entry.split(": ", 1) for entry in lines)
        assert len(headers) == len(lines), "a header is there twice"
        size = 0 if status == 100 else int(headers["content-length"])
        if data.startswith(b"HTTP/1.1 ") and size:  # the answer to HEAD has a length and no body
            size = 0
        assert len(data) >= size or not data, "an answer is cut off"
        found.append((status, headers, data[:size]))
        data = data[size:]
    return found


def check(answers: Answers, pipe: Pipe) -> None:
    for index, (status, headers, _) in enumerate(answers):
        assert status < 500 or status in (501, 503, 505), f"status {status}"
        if headers.get("connection") == "close":
            assert index == len(answers) - 1, "an answer came after the last"
            assert pipe.closed or pipe.ended, "the connection stays open after the last answer"


def told(answers: Answers) -> list[object]:
    """What must be the same however the bytes arrived; the words of a parser's error depend on the cut."""
    return [
        (status, headers.get("x-request-id"), body if status < 300 else b"")
        for status, headers, body in answers
        if status != 100  # sent only where the body was not there yet
    ]


LOOP = uvloop.new_event_loop()
WARM, COLD = Front(LOOP), Front(LOOP)
FAILURES: list[Any] = []
LOOP.set_exception_handler(lambda loop, context: FAILURES.append(context))


def target(data: bytes) -> None:
    cut, stream = data[:1], data[1:]
    pieces = pieces_of(stream, cut[0] if cut else 0)
    COLD.door.heads.clear()
    whole = LOOP.run_until_complete(WARM.answers([stream], between=False))
    apart = LOOP.run_until_complete(COLD.answers(pieces, between=False))
    check(*whole)
    check(*apart)
    if cut and cut[0] % 4 == 0:
        check(*LOOP.run_until_complete(COLD.answers(pieces, between=True)))
    assert told(whole[0]) == told(apart[0]), (told(whole[0]), told(apart[0]))
    assert not FAILURES, FAILURES


def pieces_of(stream: bytes, how: int) -> list[bytes]:
    """Cut by a number: 0 at every byte, else at random places of which there are more or fewer."""
    if how == 0:
        return [stream[index : index + 1] for index in range(len(stream))]
    chance = random.Random(how)
    places = sorted(chance.randrange(len(stream) + 1) for _ in range(how % 16))
    return [stream[start:stop] for start, stop in zip([0, *places], [*places, len(stream)], strict=True)]


def request(line: bytes, body: bytes, *lines: bytes, length: bool = True) -> bytes:
    counted = [b"Content-Length: %d" % len(body)] if length else []
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: a", *lines, *counted, b"", body])


def seeds() -> list[bytes]:
    found = [request(b"GET /livez", b"", length=False), request(b"POST /v2/repository/index", b"{}")]
    found.append(request(b"GET /v2/models/floats", b"", b"Connection: Upgrade", b"Upgrade: h2c", length=False))
    found.append(request(b"OPTIONS /metrics", b"", b"X-Request-ID: z"))
    for name in SIGNATURES:
        url = b"POST /v2/models/%b/infer" % name.encode()
        header, tail = as_binary(name)
        found.append(request(url, as_json(name), b"X-Request-ID: a"))
        found.append(request(url, header + tail, b"Inference-Header-Content-Length: %d" % len(header)))
        body = as_json(name, id="i")
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        found.append(request(url, chunks, b"Transfer-Encoding: chunked", length=False))
        found.append(
            request(b"POST /v1/models/%b:predict" % name.encode(), b'{"instances": []}', b"Expect: 100-continue")
        )
    order = random.Random(0)
    streams = [b"".join(order.choices(found, k=3)) for _ in range(20)]
    return [bytes([order.randrange(256)]) + stream for stream in (*found, *streams)]


if __name__ == "__main__":
    fuzz(target, seeds())
