"""``python -m bench.hot_path``: what the front's own Python costs per request, without sockets.

Real connections, route, queue, batches and records; the transport swallows what is written, and
the worker's reply is made beforehand. The lowest of many rounds: what the code costs with warm
caches, free of the noise of a shared machine. The rest of a request's time is the kernel's, the
event loop's and the worker's.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import struct
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import orjson
import uvicorn
from uvicorn.server import ServerState

from forwardpass.config import Limits, Settings
from forwardpass.engine.messages import (
    LENGTHS,
    BatchHead,
    ReplyHead,
    decode_columns,
    decode_head,
    encode_columns,
    frame,
)
from forwardpass.monitoring import Metrics
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Batch, Reply, Scheduler
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http.connection import Connection
from forwardpass.server.http.door import Door
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel, State, clock
from forwardpass.types import DType, InputSpec, Signature, StageTimes, TensorSpec

CONNECTIONS = 32
ROUNDS = 5000
STEPS = ("parse, decode, queue", "form and send the batch", "answer and record")


class Sink:
    """A transport that throws away what is written."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Turn:
    """Timers of which only the end of the turn matters."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self.due.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> None: ...

    def end(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


class Wire:
    """A replica up to the point where bytes would leave."""

    batch: Batch

    def run(self, batch: Batch) -> None:
        self.batch = batch
        heads, body = encode_columns(batch.stack(), None)
        frame(BatchHead([request.rows for request in batch.requests], heads), body)


class Front:
    """One served model and its connections."""

    def __init__(self) -> None:
        plane = DataPlane(Recorder((Metrics(),)))
        self.served = ServedModel(ModelLocation("tiny", "1", Path()))
        inputs = (InputSpec(TensorSpec("x", DType.FP32, (None, 64))),)
        self.served.signature = Signature(inputs, (TensorSpec("y", DType.FP32, (None, 10)),), True)
        self.turn, self.wire = Turn(), Wire()
        observe = functools.partial(plane.recorder, self.served)
        door = Door(plane, Settings())
        self.scheduler = Scheduler(Limits(), True, clock, self.turn, observe, plane.answered)
        self.scheduler.attach(self.wire)
        self.served.scheduler, self.served.state = self.scheduler, State.READY
        plane.models = {"tiny": {"1": self.served}}
        door.rebuild()
        self.connections = _connections(door)
        heads, body = encode_columns({"y": np.random.default_rng(0).random((CONNECTIONS, 10), np.float32)}, None)
        self.reply = frame(ReplyHead(heads, {}, StageTimes(0.0, 1e-5, 0.0)), body)

    def round(self, request: bytes) -> tuple[float, ...]:
        """One request on every connection; seconds of each step."""
        times = [perf_counter()]
        for connection in self.connections:
            connection.data_received(request)
        times.append(perf_counter())
        self.turn.end()
        times.append(perf_counter())
        split, _ = LENGTHS.unpack_from(self.reply)
        data = memoryview(self.reply)[LENGTHS.size :]
        head = decode_head(data[:split])
        assert isinstance(head, ReplyHead)
        outputs = decode_columns(head.columns, data[split:], None)
        self.scheduler.finished(self.wire, self.wire.batch, Reply(outputs, {}, head.times))
        times.append(perf_counter())
        return tuple(np.diff(times))


def requests() -> dict[str, bytes]:
    """The tiny model's request, as JSON and with raw bytes."""
    numbers = [round(0.01 * index, 2) for index in range(64)]
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32"}
    plain = orjson.dumps({"inputs": [tensor | {"data": numbers}]})
    asked = [{"name": "y", "parameters": {"binary_data": True}}]
    header = orjson.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 256}}], "outputs": asked})
    extra = b"Inference-Header-Content-Length: %d\r\n" % len(header)
    return {"JSON": _post(plain, b""), "binary": _post(header + struct.pack("<64f", *numbers), extra)}


def main() -> None:
    front = Front()
    gc.collect()
    gc.freeze()
    for name, request in requests().items():
        rounds = np.array([front.round(request) for _ in range(ROUNDS)]) / CONNECTIONS * 1e6
        steps = ", ".join(f"{step} {cost:.1f}" for step, cost in zip(STEPS, rounds.min(axis=0), strict=True))
        print(f"{name}: {rounds.sum(axis=1).min():.1f} µs per request ({steps})")


def _post(body: bytes, extra: bytes) -> bytes:
    head = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n"
    return head % (extra, len(body)) + body


def _connections(door: Door) -> list[Connection]:
    config = uvicorn.Config(_never, http="httptools", ws="none", lifespan="off", log_config=None)
    config.load()
    state, loop = ServerState(), asyncio.new_event_loop()
    made = [Connection(door, config=config, server_state=state, app_state={}, _loop=loop) for _ in range(CONNECTIONS)]
    for connection in made:
        connection.connection_made(Sink())  # type: ignore[arg-type]
    return made


async def _never(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    raise AssertionError("every request takes the fast lane")


if __name__ == "__main__":
    main()
