"""Rows that a cascade, or a program, asks a model about: a request in that model's queue, and its answer to await.

When whoever waits for it is cancelled, it leaves the queue, or its answer is dropped.
"""

from __future__ import annotations

import asyncio
from typing import Any

from forwardpass.errors import ForwardpassError
from forwardpass.scheduler import Request
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel, clock
from forwardpass.types import Array, Columns


class Asked(Request):
    """Rows with a future of their answer."""

    def __init__(self, columns: Columns, deadline: float) -> None:
        self.arrived = clock()
        self.deadline = deadline
        self.columns = columns
        self.rows = len(next(iter(columns.values())))
        self.future: asyncio.Future[Columns] = asyncio.get_running_loop().create_future()

    def succeed(self, outputs: Columns) -> None:
        if not self.future.done():
            self.future.set_result(outputs)

    def fail(self, error: ForwardpassError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class RowsOf(Asked):
    """Some rows of another request (all of them without ``rows``), for a member that takes these inputs."""

    door = "cascade"

    def __init__(self, request: Request, rows: Array | None, deadline: float, *, background: bool) -> None:
        columns = dict(request.columns) if rows is None else {n: a[rows] for n, a in request.columns.items()}
        super().__init__(columns, deadline)
        self.rows = request.rows if rows is None else len(rows)
        self.nbytes = request.nbytes * self.rows // max(1, request.rows)
        self.key: Any = request.key
        self.background = background
        self.id = request.id


async def ask(dataplane: DataPlane, member: ServedModel, request: Asked) -> Columns:
    """The member's answer. Raises what refuses the request or lets it fail."""
    taken = {spec.name for spec in member.signature.inputs}
    request.columns = {name: array for name, array in request.columns.items() if name in taken}
    dataplane.infer(member, request)
    try:
        return await request.future
    finally:
        if not request.done and member.scheduler is not None:
            member.scheduler.cancel(request)
