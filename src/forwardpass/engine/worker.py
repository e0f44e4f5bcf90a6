"""A worker: the process that holds one engine and runs the batches its front sends.

Synchronous and single-threaded on purpose: read a batch, run it, send the reply. It ends when its
fronts have closed their links. How a batch with bad rows is run is a matter of ``batch.py``.
"""

from __future__ import annotations

import logging
import select
import signal
from collections.abc import Iterator, Sequence

from forwardpass import errors
from forwardpass.config import ModelConfig
from forwardpass.engine.batch import run_batch
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
)
from forwardpass.errors import ForwardpassError
from forwardpass.registry import ModelLocation, read_model
from forwardpass.scheduler.lengths import longest_row, ragged_inputs

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


def _measured(engine: Engine, config: ModelConfig) -> Iterator[MeasuredHead]:
    ragged = ragged_inputs(engine.signature)
    for batch in calibrate(engine, config):
        yield MeasuredHead(batch.rows, longest_row(batch.columns, ragged), batch.seconds)


def _kind(error: ForwardpassError) -> str:
    """The kind that the front knows it by: a user's own is sent as what it derives from."""
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == errors.__name__)


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
