"""Lines on standard input: a JSON instance per line in, its answer as a line of JSON out, in order.

    {"a": 1}                 ─► its prediction, or {"error": "..."}
    {"instances": [1, 2]}    ─► {"predictions": [..., ...]}

The end of the input ends the agent. A thread reads, for a file, a pipe and a terminal alike, a chunk at a time; no
more than ``AHEAD`` of its lines are here before the oldest is answered. Stopped, it answers the lines that were read;
of one that was read in part nothing is answered. Knows no model.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import orjson

from forwardpass.config import doc
from forwardpass.edge.inputs.base import InputBase, Predict
from forwardpass.edge.inputs.payload import Payload, rows_of
from forwardpass.edge.thread import in_thread
from forwardpass.errors import ForwardpassError, InvalidSettings, TooLarge

log = logging.getLogger("forwardpass.edge")
AHEAD = 64  # lines
CHUNK = 65536  # bytes


@dataclass(frozen=True, kw_only=True)
class StdinConfig:
    """The entry of ``inputs:`` with ``type: stdin``."""

    payload: Payload = field(default="json", metadata=doc("what a line is: `json` or `text`"))
    max_bytes: int = field(default=16 * 1024 * 1024, metadata=doc("longest line"))

    def __post_init__(self) -> None:
        if self.payload == "bytes" or self.max_bytes < 1:
            raise InvalidSettings("inputs: stdin: payload must be json or text, and max_bytes at least 1")


class StdinInput(InputBase):
    """See ``Input``. ``read_from`` and ``write_to`` are file descriptors; they stay open."""

    Config: ClassVar[type[StdinConfig]] = StdinConfig

    def __init__(
        self, config: StdinConfig, device: str, home: Path, read_from: int | None = None, write_to: int | None = None
    ) -> None:
        super().__init__("stdin", ends_agent=True)
        self._config = config
        self._read_from = sys.stdin.fileno() if read_from is None else read_from
        self._write_to = sys.stdout.fileno() if write_to is None else write_to

    async def run(self, predict: Predict) -> None:
        lines = Lines(self._read_from, self._config.max_bytes)
        stopping = asyncio.ensure_future(self._stop(lines))
        try:
            while (line := await lines.next()) is not None:
                if isinstance(line, TooLarge) or line.strip():
                    await self._write(await self._answer(line, predict))
        except BrokenPipeError:
            self.problem = "nobody reads the answers any more"
        except OSError as error:  # a terminal that is gone, a full disk under the answers
            self.problem = str(error)
            log.error("stdin: %s", error)
        finally:
            stopping.cancel()
            await lines.close()

    async def _stop(self, lines: Lines) -> None:
        await self.stopping.wait()
        lines.stop()

    async def _answer(self, line: bytes | TooLarge, predict: Predict) -> Any:
        self.count("read")
        try:
            if isinstance(line, TooLarge):
                raise line
            rows = rows_of(line, self._config.payload, self._config.max_bytes)
        except ForwardpassError as error:
            self.fail("stdin", error.message)
            return {"error": error.message}
        prediction = await self.ask(predict, rows, "stdin")
        if isinstance(prediction, str):
            return {"error": prediction}
        many = self._config.payload == "json" and b'"instances"' in line and _is_body(line)
        return {"predictions": prediction.answers} if many else prediction.answers[0]

    async def _write(self, answer: Any) -> None:
        content = orjson.dumps(answer) + b"\n"
        if len(content) <= select.PIPE_BUF and _has_room(self._write_to):
            write_all(self._write_to, content)
        else:  # whoever reads may be slow
            await in_thread(lambda: write_all(self._write_to, content))


class Lines:
    """Lines of a file descriptor, read by a thread that ``close`` ends."""

    def __init__(self, descriptor: int, most_bytes: int) -> None:
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | TooLarge | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD)
        self._stopped = False  # nothing more is to be read
        self._closed = False  # nor wanted of what was
        self._error: OSError | None = None
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._read, name="stdin", daemon=True)
        self._thread.start()

    async def next(self) -> bytes | TooLarge | None:
        """The next line, or that it is too long; None at the end. Raises ``OSError`` where no more can be read."""
        line = await self._lines.get()
        self._room.release()
        if line is None and self._error is not None:
            raise self._error
        return line

    def stop(self) -> None:
        """Read no further; ``next`` still gives what was read."""
        self._stopped = True
        os.write(self._waker, b".")

    async def close(self) -> None:
        self._closed = True
        self.stop()
        self._room.release()
        await asyncio.shield(asyncio.to_thread(self._thread.join))
        os.close(self._wake)
        os.close(self._waker)

    def _read(self) -> None:
        try:
            for line in split(self._chunk, self._most_bytes):
                self._hand_over(line)
        except OSError as error:
            self._error = error
        self._hand_over(None)

    def _hand_over(self, line: bytes | TooLarge | None) -> None:
        if not self._closed:
            self._room.acquire()
        if not self._closed:  # it may be what there was to wait for
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    def _chunk(self) -> bytes | None:
        """What comes next, at least a byte; empty at the end, None when this is to stop."""
        if self._stopped:
            return None
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll()]
        return None if self._wake in ready else os.read(self._descriptor, CHUNK)


def write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _has_room(descriptor: int) -> bool:
    """Whether ``PIPE_BUF`` bytes can be written at once, or whoever reads is gone."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def split(chunk: Callable[[], bytes | None], most_bytes: int) -> Iterator[bytes | TooLarge]:
    """Lines of the chunks, without their ends, until a chunk is empty; of one that is too long only that it is.

    Where None comes instead, what followed the last end of a line is no line.
    """
    rest, too_long = bytearray(), False
    while data := chunk():
        *whole, last = data.split(b"\n")
        for part in whole:
            rest += part
            yield _too_large(most_bytes) if too_long or len(rest) > most_bytes else bytes(rest)
            rest, too_long = bytearray(), False
        rest += last
        if len(rest) > most_bytes:
            rest, too_long = bytearray(), True
    if data is not None and (rest or too_long):
        yield _too_large(most_bytes) if too_long else bytes(rest)


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"the line is longer than max_bytes: {most_bytes} allows")


def _is_body(line: bytes) -> bool:
    said = orjson.loads(line)
    return isinstance(said, dict) and "instances" in said
