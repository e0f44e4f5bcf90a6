"""One replica, seen from the front: a worker process, its link, and the batch it runs.

Translates batches to messages and back. When the process ends, by itself or by a kill, its owner
is told once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from time import perf_counter
from typing import Protocol, cast

import numpy as np

from forwardpass.engine.link import Link
from forwardpass.engine.messages import (
    LENGTHS,
    BatchHead,
    FailedHead,
    MeasuredHead,
    ReadyHead,
    ReplyHead,
    decode_columns,
    decode_head,
    encode_columns,
    error_from,
    frame,
)
from forwardpass.scheduler import Batch, Reply
from forwardpass.types import Columns

log = logging.getLogger(__name__)


class ReplicaOwner(Protocol):
    """Who is told what becomes of a replica."""

    def replica_ready(self, replica: WorkerReplica, ready: ReadyHead) -> None: ...
    def replica_failed(self, replica: WorkerReplica, failed: FailedHead) -> None: ...
    def replica_measured(self, replica: WorkerReplica, measured: MeasuredHead) -> None: ...
    def replica_finished(self, replica: WorkerReplica, batch: Batch, reply: Reply) -> None: ...
    def replica_lost(self, replica: WorkerReplica) -> None: ...


class WorkerReplica(asyncio.Protocol):
    """The front's end of one worker."""

    def __init__(self, owner: ReplicaOwner, pid: int, link: Link) -> None:
        self.pid = pid
        self.batch: Batch | None = None
        self.busy_since: float | None = None
        self.batches = 0  # that came back
        self._owner = owner
        self._link = link
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, loop: asyncio.AbstractEventLoop, owner: ReplicaOwner, pid: int, link: Link) -> WorkerReplica:
        _, replica = await loop.create_connection(lambda: cls(owner, pid, link), sock=link.socket)
        return replica

    def run(self, batch: Batch) -> None:
        """Send a batch; the owner hears when it has come back. Raises where it cannot be sent."""
        assert self._transport is not None
        arena = self._link.requests
        if arena is not None:
            arena.reset()
        heads, body = encode_columns(batch.stack(), arena)
        self.batch = batch
        self.busy_since = perf_counter()
        self._transport.write(frame(BatchHead([request.rows for request in batch.requests], heads), body))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the link: the worker ends once it has run what it runs."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass of it

    def data_received(self, data: bytes) -> None:
        if self._received:
            self._received += data
            data = bytes(self._received)
        used = 0
        while len(data) - used >= LENGTHS.size:
            head_size, body_size = LENGTHS.unpack_from(data, used)
            start = used + LENGTHS.size
            end = start + head_size + body_size
            if end > len(data):
                break
            self._message(memoryview(data)[start:end], head_size)
            used = end
        if self._received or used < len(data):
            self._received = bytearray(data[used:])

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.replica_lost(self)

    def _message(self, data: memoryview, head_size: int) -> None:
        head = decode_head(data[:head_size])
        if isinstance(head, ReplyHead):
            self._reply(head, data[head_size:])
        elif isinstance(head, ReadyHead):
            self._owner.replica_ready(self, head)
        elif isinstance(head, MeasuredHead):
            self._owner.replica_measured(self, head)
        elif isinstance(head, FailedHead):
            self._owner.replica_failed(self, head)

    def _reply(self, head: ReplyHead, body: memoryview) -> None:
        batch = self.batch
        assert batch is not None
        outputs = decode_columns(head.columns, body, self._link.replies)
        if any(column.offset is not None for column in head.columns):
            outputs = _copied(outputs)  # the worker writes its next reply to the same memory
        failures = {index: error_from(*said) for index, said in head.failures.items()}
        self.batches += 1
        self.batch = self.busy_since = None
        self._owner.replica_finished(self, batch, Reply(outputs, failures, head.times))


def _copied(columns: Columns) -> Columns:
    return {name: np.array(array) for name, array in columns.items()}
