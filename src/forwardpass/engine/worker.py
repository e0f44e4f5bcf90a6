"""A worker: the process that holds one engine and runs the batches its front sends.

Synchronous and single-threaded on purpose: read a batch, run it, send the reply. It ends when its
front closes the socket. One bad row fails only its own request: a batch that cannot run as a whole
is run again without the bad rows or, where nobody can say which they are, request by request.
"""

from __future__ import annotations

import logging
import signal
import socket
from itertools import accumulate

import numpy as np

from forwardpass import errors
from forwardpass.engine.arena import Arena
from forwardpass.engine.engine import Engine
from forwardpass.engine.messages import (
    LENGTHS,
    BatchHead,
    FailedHead,
    ReadyHead,
    ReplyHead,
    decode_columns,
    decode_head,
    encode_columns,
    frame,
    require_sendable,
)
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidRows
from forwardpass.registry import ModelLocation, read_model
from forwardpass.types import Columns, StageTimes

log = logging.getLogger(__name__)

USUAL_SIZE = 256 * 1024  # bytes of a message that is read into memory used again


def serve(
    link: socket.socket, requests: Arena | None, replies: Arena | None, model: ModelLocation, threads: int
) -> None:
    """Load the model, say so, then run batches until the front closes the link."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; the front decides
    try:
        engine = Engine.open(read_model(model), threads)
    except ForwardpassError as error:
        link.sendall(frame(FailedHead(type(error).__name__, error.message)))
        return
    except Exception as error:  # a user's steps.py may raise anything while it opens
        log.exception("%s cannot be loaded", model.name)
        link.sendall(frame(FailedHead("InvalidModel", f"{model.name}: {type(error).__name__}: {error}")))
        return
    link.sendall(frame(ReadyHead(engine.signature, engine.info)))
    messages = _Messages(link)
    while (message := messages.next()) is not None:
        link.sendall(_run(engine, *message, requests, replies))


def run_batch(
    engine: Engine, columns: Columns, rows: list[int]
) -> tuple[Columns, dict[int, ForwardpassError], StageTimes]:
    """Answers of the requests that can be answered, stacked in order, and the errors of the others.

    ``rows`` are the row counts of the requests whose rows ``columns`` holds.
    """
    failures: dict[int, ForwardpassError] = {}
    indices = list(range(len(rows)))
    while indices:
        try:
            outputs, times = _attempt(engine, columns)
            return outputs, failures, times
        except InvalidRows as error:
            bad = _by_request(error, [rows[i] for i in indices])
            if not bad:
                return _one_by_one(engine, columns, rows, indices, failures)
            failures.update({indices[i]: part for i, part in bad.items()})
            if len(bad) == len(indices):
                break
            columns, indices = _without(columns, rows, indices, set(bad))
        except ForwardpassError as error:
            if len(indices) > 1:
                return _one_by_one(engine, columns, rows, indices, failures)
            failures[indices[0]] = error
            indices = []
    return {}, failures, StageTimes(0.0, 0.0, 0.0)


def _attempt(engine: Engine, columns: Columns) -> tuple[Columns, StageTimes]:
    try:
        outputs, times = engine.run(columns)
        for name, array in outputs.items():
            require_sendable(name, array)
        return outputs, times
    except ForwardpassError:
        raise
    except Exception as error:  # the batch loop: whatever a library raises, every request gets an answer
        log.exception("a batch of %s failed", engine.name)
        raise BackendFailed(f"the model failed: {type(error).__name__}: {error}") from error


def _one_by_one(
    engine: Engine, columns: Columns, rows: list[int], indices: list[int], failures: dict[int, ForwardpassError]
) -> tuple[Columns, dict[int, ForwardpassError], StageTimes]:
    answers: list[Columns] = []
    spent = StageTimes(0.0, 0.0, 0.0)
    start = 0
    for index in indices:
        stop = start + rows[index]
        own = {name: array[start:stop] for name, array in columns.items()}
        outputs, failed, times = run_batch(engine, own, [rows[index]])
        spent = _sum(spent, times)
        if failed:
            failures[index] = failed[0]
        else:
            answers.append(outputs)
        start = stop
    stacked = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]} if answers else {}
    return stacked, failures, spent


def _by_request(error: InvalidRows, rows: list[int]) -> dict[int, ForwardpassError]:
    """The error of each request that holds a bad row, its rows counted from its own first.

    Empty where a row was named that is not there, so that nobody can say whose it is.
    """
    if len(rows) == 1 and (rows[0] != 1 or error.rows.keys() != {0}):
        return {0: error}
    if not all(0 <= row < sum(rows) for row in error.rows):
        return {}
    ends = list(accumulate(rows))
    parts: dict[int, dict[int, str]] = {}
    for row, text in error.rows.items():
        index = int(np.searchsorted(ends, row, side="right"))
        parts.setdefault(index, {})[row - (ends[index] - rows[index])] = text
    return {i: InvalidInput(bad[0]) if rows[i] == 1 else InvalidRows(bad) for i, bad in parts.items()}


def _without(columns: Columns, rows: list[int], indices: list[int], bad: set[int]) -> tuple[Columns, list[int]]:
    keep = np.concatenate([np.full(rows[index], place not in bad) for place, index in enumerate(indices)])
    left = [index for place, index in enumerate(indices) if place not in bad]
    return {name: array[keep] for name, array in columns.items()}, left


def _run(engine: Engine, head: BatchHead, body: memoryview, requests: Arena | None, replies: Arena | None) -> bytes:
    outputs, failures, times = run_batch(engine, decode_columns(head.columns, body, requests), head.rows)
    if replies is not None:
        replies.reset()
    try:
        columns, pieces = encode_columns(outputs, replies)
    except ForwardpassError as error:
        columns, pieces, failures = [], [], dict.fromkeys(range(len(head.rows)), error)
    said = {index: (_kind(error), error.message) for index, error in failures.items()}
    return frame(ReplyHead(columns, said, times), pieces)


def _kind(error: ForwardpassError) -> str:
    """The kind that the front knows it by: a user's own is sent as what it derives from."""
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == errors.__name__)


def error_from(kind: str, message: str) -> ForwardpassError:
    """The error that a worker named, as the front raises it."""
    cls = getattr(errors, kind, BackendFailed)
    return InvalidInput(message) if cls is InvalidRows else cls(message)


def _sum(a: StageTimes, b: StageTimes) -> StageTimes:
    return StageTimes(a.preprocess + b.preprocess, a.forward + b.forward, a.postprocess + b.postprocess)


class _Messages:
    """Messages from the front, one at a time.

    A small message comes with one system call, into memory used again for the next: what looks
    into it must be done with when ``next`` is called again, as it is once the reply is sent.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._memory = memoryview(bytearray(USUAL_SIZE))

    def next(self) -> tuple[BatchHead, memoryview] | None:
        """The head and body of the next batch, or None once the front has closed the link."""
        data = self._memory
        filled = self._receive(data, 0, LENGTHS.size)
        if filled is None:
            return None
        head_size, body_size = LENGTHS.unpack_from(data)
        size = LENGTHS.size + head_size + body_size
        if size > len(data):
            data = memoryview(bytearray(size))
            data[:filled] = self._memory[:filled]
        if self._receive(data, filled, size) is None:
            return None
        start = LENGTHS.size + head_size
        head = decode_head(data[LENGTHS.size : start])
        assert isinstance(head, BatchHead)
        return head, data[start:size]

    def _receive(self, data: memoryview, filled: int, least: int) -> int | None:
        """Read until ``least`` bytes are there; how many there are, or None at the end."""
        while filled < least:
            count = self._link.recv_into(data[filled:])
            if count == 0:
                return None
            filled += count
        return filled
