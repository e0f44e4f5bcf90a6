"""A worker: the process that holds one engine and runs the batches its front sends.

Synchronous and single-threaded on purpose: read a batch, run it, send the reply. It ends when its
fronts have closed their links. One bad row fails only its own request: a batch that cannot run as a whole
is run again without the bad rows or, where nobody can say which they are, request by request.
"""

from __future__ import annotations

import logging
import select
import signal
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from forwardpass import errors
from forwardpass.config import ModelConfig
from forwardpass.engine.calibration import calibrate
from forwardpass.engine.engine import Engine
from forwardpass.engine.link import Link
from forwardpass.engine.messages import (
    LENGTHS,
    BatchHead,
    FailedHead,
    Head,
    MeasuredHead,
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
from forwardpass.scheduler.lengths import longest_row, ragged_inputs
from forwardpass.types import Columns, StageTimes

log = logging.getLogger(__name__)

QUIET = 0.05  # seconds without a message before the worker measures a batch of its own
USUAL_SIZE = 256 * 1024  # bytes of a message that is read into memory used again


def serve(links: Sequence[Link], model: ModelLocation, threads: int, measures: bool = False) -> None:
    """Load the model, say so, then run batches until every front has closed its link.

    ``measures``: while nothing is asked, also say what batches of several sizes take.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; the front decides
    fronts = _Fronts(links)
    try:
        files = read_model(model)
        engine = Engine.open(files, threads)
    except ForwardpassError as error:
        fronts.tell(FailedHead(type(error).__name__, error.message))
        return
    except Exception as error:  # a user's steps.py may raise anything while it opens
        log.exception("%s cannot be loaded", model.name)
        fronts.tell(FailedHead("InvalidModel", f"{model.name}: {type(error).__name__}: {error}"))
        return
    fronts.tell(ReadyHead(engine.signature, engine.info))
    fronts.serve(engine, _measured(engine, files.config) if measures else iter(()))


class _Fronts:
    """The fronts that this worker serves, in turn where several ask at once."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._lines = {link.socket.fileno(): _Line(link) for link in links}
        self._poll = select.poll()
        for fd in self._lines:
            self._poll.register(fd, select.POLLIN)

    def tell(self, head: Head) -> None:
        """Tell all of them."""
        message = frame(head)
        for fd, line in list(self._lines.items()):
            try:
                line.send(message)
            except OSError:
                self._drop(fd)

    def serve(self, engine: Engine, unasked: Iterator[Head]) -> None:
        """Run what they send; while nobody asks, do what is to be done ``unasked``."""
        measuring = True
        while self._lines:
            asking = self._asking(wait=QUIET if measuring else None)
            for fd in asking:
                try:
                    if not self._lines[fd].answer(engine):
                        self._drop(fd)
                except OSError:  # it went while a reply was on its way
                    self._drop(fd)
            if not asking:
                head = next(unasked, None)
                measuring = head is not None
                if head is not None:
                    self.tell(head)

    def _asking(self, wait: float | None) -> list[int]:
        """Those that have sent something, or none after ``wait`` seconds."""
        if wait is None and len(self._lines) == 1:
            return list(self._lines)  # reading waits for it, with a system call less
        return [fd for fd, _ in self._poll.poll(None if wait is None else 1000 * wait)]

    def _drop(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._lines.pop(fd).close()


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


def _measured(engine: Engine, config: ModelConfig) -> Iterator[MeasuredHead]:
    ragged = ragged_inputs(engine.signature)
    for batch in calibrate(engine, config):
        yield MeasuredHead(batch.rows, longest_row(batch.columns, ragged), batch.seconds)


def _kind(error: ForwardpassError) -> str:
    """The kind that the front knows it by: a user's own is sent as what it derives from."""
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == errors.__name__)


def _sum(a: StageTimes, b: StageTimes) -> StageTimes:
    return StageTimes(a.preprocess + b.preprocess, a.forward + b.forward, a.postprocess + b.postprocess)


class _Line:
    """One front's link: takes a batch, sends its reply.

    A small message comes with one system call, into memory used again for the next: what looks
    into it must be done with when the next is read, as it is once the reply is sent.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._memory = memoryview(bytearray(USUAL_SIZE))

    def send(self, message: bytes) -> None:
        self._link.socket.sendall(message)

    def close(self) -> None:
        self._link.close()

    def answer(self, engine: Engine) -> bool:
        """Run the next batch; false once the front has closed the link. Raises ``OSError``."""
        message = self._next()
        if message is None:
            return False
        head, body = message
        outputs, failures, times = run_batch(engine, decode_columns(head.columns, body, self._link.requests), head.rows)
        replies = self._link.replies
        if replies is not None:
            replies.reset()
        try:
            columns, pieces = encode_columns(outputs, replies)
        except ForwardpassError as error:
            columns, pieces, failures = [], [], dict.fromkeys(range(len(head.rows)), error)
        said = {index: (_kind(error), error.message) for index, error in failures.items()}
        self.send(frame(ReplyHead(columns, said, times), pieces))
        return True

    def _next(self) -> tuple[BatchHead, memoryview] | None:
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
            count = self._link.socket.recv_into(data[filled:])
            if count == 0:
                return None
            filled += count
        return filled
