"""What a job's parent and its workers tell each other, each message one frame on a pipe."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import TypeAlias

import msgspec

from forwardpass.jobs.dataset import Facts
from forwardpass.jobs.job import Job
from forwardpass.jobs.ledger import Part, PartResult
from forwardpass.types import Signature


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """To a worker that has loaded its model: what the parts are parts of.

    ``files`` are the digests of the model's files as it was planned with; empty where only a server knows them.
    """

    job: Job
    data: Facts
    files: dict[str, str] = {}


class Do(msgspec.Struct, frozen=True, tag="do"):
    """To a worker: do this part."""

    part: Part


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """From a worker: its engine is ready."""

    signature: Signature


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """From a worker: it cannot do anything at all, and ends."""

    message: str


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """From a worker: so many rows of the part are done."""

    rows: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """From a worker: the part is committed."""

    result: PartResult


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """From a worker: the part could not be done. ``hopeless``: nor could any other (no space is left)."""

    reason: str
    hopeless: bool


Order: TypeAlias = Begin | Do
Report: TypeAlias = Loaded | Refused | Progress | Done | Failed

_encoder = msgspec.msgpack.Encoder()
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def send(connection: Connection, message: Order | Report) -> None:
    """Raises ``OSError`` where nobody reads."""
    connection.send_bytes(_encoder.encode(message))


def receive_order(connection: Connection) -> Order:
    """Raises ``EOFError`` once the parent has gone."""
    return _orders.decode(connection.recv_bytes())


def receive_report(connection: Connection) -> Report:
    """Raises ``EOFError`` once the worker has gone."""
    return _reports.decode(connection.recv_bytes())
