"""Rows that a cascade asks a member about: some of those it was asked about itself, as the member takes them.

When whoever waits for them is cancelled, they leave the member's queue, or their answer is dropped.
"""

from __future__ import annotations

from typing import Any

from forwardpass.scheduler import Request
from forwardpass.server import asking
from forwardpass.server.asking import Asked
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel
from forwardpass.types import Array, Columns


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


async def ask(dataplane: DataPlane, member: ServedModel, rows: RowsOf) -> Columns:
    """The member's answer. Raises what refuses the request or lets it fail."""
    taken = {spec.name for spec in member.signature.inputs}
    rows.columns = {name: array for name, array in rows.columns.items() if name in taken}
    return await asking.ask(dataplane, member, rows)
