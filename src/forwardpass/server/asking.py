"""Rows that a program asks a model about: a request in that model's queue, and its answer to await.

For whoever is no door and waits: inputs of a device, cascades, clients in this process. Knows no protocol.
"""

from __future__ import annotations

import asyncio

from forwardpass.errors import ForwardpassError
from forwardpass.scheduler import Request
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel, clock
from forwardpass.types import Columns


class Asked(Request):
    """Rows with a future of their answer."""

    def __init__(self, columns: Columns, deadline: float) -> None:
        self.arrived = clock()
        self.deadline = deadline
        self.columns = columns
        self.rows = len(next(iter(columns.values()))) if columns else 1
        self.future: asyncio.Future[Columns] = asyncio.get_running_loop().create_future()

    def succeed(self, outputs: Columns) -> None:
        if not self.future.done():
            self.future.set_result(outputs)

    def fail(self, error: ForwardpassError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


async def ask(dataplane: DataPlane, served: ServedModel, request: Asked) -> Columns:
    """The outputs of a version. Raises what refuses the request or lets it fail; cancelled, so is the request."""
    dataplane.infer(served, request)
    try:
        return await request.future
    finally:
        if not request.done and served.scheduler is not None:
            served.scheduler.cancel(request)
