"""A control plane with the gateway's composer in this process, members whose answers a test decides, and a cloud.

``House`` is what a server has without its doors. ``Local`` is a model whose batches are answered by a function.
``Cloud`` is a real HTTP server that speaks the protocol and misbehaves as it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
from tests.engine.workers import Awaited, until

from forwardpass.config import Limits, Settings
from forwardpass.engine.messages import ReadyHead
from forwardpass.errors import BackendFailed, ForwardpassError
from forwardpass.gateway.cascade import Cascade
from forwardpass.gateway.compose import create_composer
from forwardpass.gateway.remote import Remote
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Batch, Reply
from forwardpass.server.composed import Defer
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel
from forwardpass.types import Columns, DType, InputSpec, ModelInfo, Signature, StageTimes, TensorSpec

INPUTS = (InputSpec(TensorSpec("x", DType.FP32, (None,))), InputSpec(TensorSpec("id", DType.INT64, (None,))))
OUTPUTS = (TensorSpec("p", DType.FP32, (None, 2)), TensorSpec("who", DType.INT64, (None,)))
WhatHappens = Callable[[Columns], Columns | ForwardpassError | float | None]


def rows(*values: float, first: int = 0) -> Columns:
    """Rows of these ``x``, numbered from ``first``."""
    return {"x": np.array(values, np.float32), "id": np.arange(first, first + len(values), dtype=np.int64)}


def answers(number: int) -> Callable[[Columns], Columns]:
    """A member's answers: as sure of the first class as ``x`` says; ``who`` is the row's number, then its own."""

    def answer(columns: Columns) -> Columns:
        x = columns["x"]
        return {"p": np.stack([x, 1 - x], axis=1).astype(np.float32), "who": columns["id"] * 10 + number}

    return answer


class Local:
    """A model of this process. ``happens`` gives a batch's outputs, an error, seconds to wait first, or None: never."""

    def __init__(
        self,
        house: House,
        name: str,
        happens: WhatHappens,
        outputs: tuple[TensorSpec, ...] = OUTPUTS,
        version: str = "1",
    ) -> None:
        self.happens = happens
        self.seen: list[Columns] = []
        self.background: list[bool] = []
        self.served = ServedModel(ModelLocation(name, version, Path(name)))
        self.served.limits = Limits(timeout=20.0)
        self._never: list[tuple[_Worker, Batch]] = []
        house.locals.append(self)
        scheduler = house.dataplane.open(self.served, ReadyHead(Signature(INPUTS, outputs, True), ModelInfo(name)))
        for _ in range(8):
            scheduler.attach(_Worker(self))
        house.dataplane.publish(self.served)

    def run(self, worker: _Worker, batch: Batch) -> None:
        columns = batch.stack()
        self.seen.append(columns)
        self.background += [request.background for request in batch.requests]
        self._go_on(worker, batch, columns, self.happens(columns))

    def _go_on(self, worker: _Worker, batch: Batch, columns: Columns, what: Any) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(what, float):
            loop.call_later(what, self._go_on, worker, batch, columns, answers(2)(columns))
        elif what is None:
            self._never.append((worker, batch))
        else:
            loop.call_soon(self._finish, worker, batch, what)

    def let_go(self) -> None:
        """What was never to be answered fails, so that nobody waits for its end."""
        for worker, batch in self._never:
            self._finish(worker, batch, BackendFailed("never"))

    def _finish(self, worker: _Worker, batch: Batch, what: Columns | ForwardpassError) -> None:
        scheduler = self.served.scheduler
        assert scheduler is not None
        if isinstance(what, ForwardpassError):
            reply = Reply({}, dict.fromkeys(range(len(batch.requests)), what), StageTimes(0, 0, 0))
        else:
            reply = Reply(what, {}, StageTimes(0, 1e-5, 0))
        scheduler.finished(worker, batch, reply)


class _Worker:
    def __init__(self, owner: Local) -> None:
        self._owner = owner

    def run(self, batch: Batch) -> None:
        self._owner.run(self, batch)


class House:
    """Models without artifact under ``folder``, loaded by their names; ``wall_clock`` is that of days."""

    def __init__(self, folder: Path, defer: Defer | None = None, withheld: str = "") -> None:
        self.folder = folder
        self.today = 1e9
        self.locals: list[Local] = []
        self.dataplane = DataPlane(Recorder(()))
        settings = Settings(drain_timeout=5.0, cores=1)
        composer = create_composer(
            defer=defer, withheld=withheld, wall_clock=lambda: self.today, chance=random.Random(5)
        )
        fronts = Fronts(settings, lambda: (_ for _ in ()).throw(AssertionError), 0)
        self.control = Control(self.dataplane, cast(Any, None), settings, [folder], fronts, composer)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "model.yaml").write_text(text, encoding="utf-8")

    async def load(self, name: str, text: str) -> ServedModel:
        """Raises ``InvalidModel`` where it cannot be loaded."""
        self.write(name, text)
        await self.control.load(name)
        return self.dataplane.model(name)

    async def pair(self, text: str = "") -> Cascade:
        """A cascade of ``small`` and ``large``, sure from 0.8; ``text`` are more keys of its escalation."""
        keys = ", ".join(filter(None, ["confidence: p, threshold: 0.8", text]))
        served = await self.load("pair", f"cascade: [small, large]\nescalation: {{{keys}}}\n")
        return cast(Cascade, served.composed)

    def remote(self, name: str) -> Remote:
        return cast(Remote, self.dataplane.model(name).composed)

    def ask(self, name: str, columns: Columns, timeout: float = 20.0, *, background: bool = False) -> Awaited:
        request = Awaited(columns, timeout)
        request.background = background
        self.dataplane.infer(self.dataplane.model(name), request)
        return request

    async def answer(self, name: str, columns: Columns, timeout: float = 20.0) -> Columns:
        return await self.ask(name, columns, timeout).future


@contextlib.asynccontextmanager
async def house(folder: Path, defer: Defer | None = None, withheld: str = "") -> AsyncIterator[House]:
    made = House(folder, defer, withheld)
    try:
        yield made
    finally:
        for local in made.locals:
            local.let_go()
        await made.control.stop()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


Doing = Callable[["Cloud", Columns], Awaitable[bytes | None]]


class Cloud:
    """A V2 server of one model, ``large``, that answers as ``answers(2)``. ``doing`` says what comes back for a batch.

    ``None`` closes the connection without a word. Where there is a ``token`` (small letters), it is asked for.
    """

    def __init__(self, number: int = 2) -> None:
        self.number = number
        self.doing: Doing = well
        self.ready = True
        self.token = b""
        self.outputs: tuple[TensorSpec, ...] = OUTPUTS
        self.seen: list[Columns] = []
        self.heads: list[dict[str, Any]] = []
        self.headers: list[bytes] = []
        self.under_way = 0
        self.most_under_way = 0
        self.given_up = 0
        self._server: asyncio.Server | None = None
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Close everything at once; ``start`` begins again at the same place."""
        if self._server is not None:
            self._server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while answer := await self._answer(*await self._read(reader), reader):
                writer.write(answer)
                await writer.drain()
        except (OSError, EOFError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0] or 0)
        return head, await reader.readexactly(length)

    async def _answer(self, head: bytes, body: bytes, reader: asyncio.StreamReader) -> bytes | None:
        path = head.split(b" ")[1].decode()
        if self.token and b"\r\nauthorization: bearer %b\r\n" % self.token not in head:
            return said(401, {"error": "who are you?"})
        if path == "/v2/models/large":
            tensors = [[_entry(spec) for spec in specs] for specs in ([i.tensor for i in INPUTS], self.outputs)]
            return said(200, {"name": "large", "platform": "other", "inputs": tensors[0], "outputs": tensors[1]})
        if path == "/v2/models/large/ready":
            return said(200 if self.ready else 503, {} if self.ready else {"error": "it rests"})
        if path != "/v2/models/large/infer":
            return said(404, {"error": f"there is nothing at {path}"})
        split = int(head.split(b"inference-header-content-length:")[1].split(b"\r\n")[0])
        self.headers.append(head)
        self.heads.append(orjson.loads(body[:split]))
        columns = _columns(self.heads[-1], body[split:])
        self.seen.append(columns)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._unless_left(self.doing(self, columns), reader)
        finally:
            self.under_way -= 1

    async def _unless_left(self, doing: Awaitable[bytes | None], reader: asyncio.StreamReader) -> bytes | None:
        task = asyncio.ensure_future(doing)
        while not task.done():
            await asyncio.wait({task}, timeout=0.005)
            if reader.at_eof() and not task.done():
                self.given_up += 1
                task.cancel()
                return None
        return await task


async def well(cloud: Cloud, columns: Columns) -> bytes | None:
    """The right answer."""
    outputs = answers(cloud.number)(columns)
    entries, raws = [], []
    for spec in cloud.outputs:
        raws.append(outputs[spec.name].tobytes())
        shape = list(outputs[spec.name].shape)
        size = {"binary_data_size": len(raws[-1])}
        entries.append({"name": spec.name, "datatype": spec.dtype, "shape": shape, "parameters": size})
    head = orjson.dumps({"model_name": "large", "outputs": entries})
    return http(200, head + b"".join(raws), b"inference-header-content-length: %d\r\n" % len(head))


def saying(status: int, body: Any = None, headers: bytes = b"") -> Doing:
    """The same answer to everything."""

    async def doing(cloud: Cloud, columns: Columns) -> bytes:
        return said(status, {"error": "so it says"} if body is None else body, headers)

    return doing


def after(seconds: float) -> Doing:
    async def doing(cloud: Cloud, columns: Columns) -> bytes | None:
        await asyncio.sleep(seconds)
        return await well(cloud, columns)

    return doing


async def closing(cloud: Cloud, columns: Columns) -> bytes | None:
    """Not a word."""
    return None


def said(status: int, body: Any, headers: bytes = b"") -> bytes:
    return http(status, body if isinstance(body, bytes) else orjson.dumps(body), headers)


def http(status: int, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), headers, body)


@contextlib.asynccontextmanager
async def clouds(count: int = 1) -> AsyncIterator[list[Cloud]]:
    made = [Cloud() for _ in range(count)]
    for cloud in made:
        await cloud.start()
    try:
        yield made
    finally:
        for cloud in made:
            await cloud.die()


def remote_yaml(made: list[Cloud], more: str = "") -> str:
    urls = ", ".join(cloud.url for cloud in made)
    keys = ", ".join(filter(None, [f"urls: [{urls}], check_every: 0.2", more]))
    return f"remote: {{{keys}}}\n"


def _entry(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.dtype, "shape": [-1 if axis is None else axis for axis in spec.shape]}


def _columns(head: dict[str, Any], tail: bytes) -> Columns:
    columns: Columns = {}
    for entry in head["inputs"]:
        size = entry["parameters"]["binary_data_size"]
        dtype = DType(entry["datatype"]).numpy
        columns[entry["name"]] = np.frombuffer(tail[:size], dtype).reshape(entry["shape"])
        tail = tail[size:]
    return columns


__all__ = ["Awaited", "until"]
