"""A watched folder as an input: one file is one item, its answer lies beside it in ``done/``.

    part-7.png ─► done/part-7.png and done/part-7.png.answer.json
    part-8.png ─► failed/part-8.png and failed/part-8.png.error

A file is read once it is complete: it was renamed in, or has not changed for ``settle`` seconds;
names that begin with a dot or end with ``.tmp``, ``.part`` or ``~`` are left alone. Files go by name.
A crash between answer and move has a file asked about again, under the same id: what counts by id
counts it once; a rule may act twice. One that cannot be moved keeps its answer in memory until it can.
What took a file's place while it was asked about is another file, and comes next.
The source is ``folder:NAME#FILE``. Knows no model.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import orjson

from forwardpass.config import doc
from forwardpass.edge.inputs.base import InputBase, Predict
from forwardpass.edge.inputs.payload import Payload, rows_of
from forwardpass.errors import ForwardpassError, InvalidSettings, TooLarge

log = logging.getLogger("forwardpass.edge")
DONE, FAILED = "done", "failed"
UNFINISHED = (".tmp", ".part", "~")
KINDS: dict[str, Payload] = {".json": "json", ".txt": "text"}  # by ending; all others are bytes
MOST_LEFT, MOST_LEFT_BYTES = 1000, 8 * 1024 * 1024  # files that cannot be moved aside, and their answers
State = tuple[int, int, int]  # inode, size, nanoseconds of the last change


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """An entry of ``inputs:`` with ``type: folder``."""

    path: str = field(metadata=doc("folder to watch; made where it is not there"))
    payload: Payload | None = field(
        default=None, metadata=doc("what a file is: `json`, `text` or `bytes`; default: by `.json`, `.txt`, others")
    )
    every: float = field(default=0.5, metadata=doc("seconds between looks"))
    settle: float = field(default=1.0, metadata=doc("seconds without a change after which a file is complete"))
    keep: bool = field(default=True, metadata=doc("`false`: remove a file that was answered, and keep no answer"))
    max_bytes: int = field(default=64 * 1024 * 1024, metadata=doc("largest file"))

    def __post_init__(self) -> None:
        if not 0.01 <= self.every < math.inf or not 0 <= self.settle < math.inf or self.max_bytes < 1:
            raise InvalidSettings(
                "inputs: folder: every must be at least 0.01 seconds, settle at least 0, max_bytes at least 1;"
                f" got {self.every}, {self.settle}, {self.max_bytes}"
            )


@dataclass(frozen=True)
class Handled:
    """What became of a file that was in this state: its answer as JSON, or the reason why there is none."""

    state: State
    failed: bool
    content: bytes


class FolderInput(InputBase):
    """See ``Input``. ``clock`` gives seconds that only grow."""

    Config: ClassVar[type[FolderConfig]] = FolderConfig

    def __init__(
        self, config: FolderConfig, device: str, home: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(f"folder:{Path(config.path).name.replace('#', '_')}")
        self._config = config
        self._folder = home / config.path
        self._clock = clock
        self._seen: dict[str, tuple[State, float]] = {}  # what a file was like, and since when
        self._left: dict[str, Handled] = {}  # of files that could not be moved aside yet

    async def run(self, predict: Predict) -> None:
        while not self.stopping.is_set():
            try:
                self._say(await self._look(predict))
            except OSError as error:  # the folder is gone, or may not be read
                self._say(str(error))
            await self.pause(self._config.every)

    async def _look(self, predict: Predict) -> str:
        """Take every file that is complete; "", or why one of them stays where it is. Raises ``OSError``."""
        problem = ""
        for file in await asyncio.to_thread(self._complete):
            if self.stopping.is_set():
                break
            try:
                await self._handle(file, predict)
            except OSError as error:  # a full disk, no permission; others may go
                problem = str(error)
        return problem

    def _say(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("%s: %s; trying again", self.name, problem)
        elif self.problem and not problem:
            log.info("%s: goes on", self.name)
        self.problem = problem

    def _complete(self) -> list[Path]:
        """Files that have not changed for long enough, in the order of their names."""
        for name in ("", DONE, FAILED):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        now = self._clock()
        states = {name: state for name in sorted(os.listdir(self._folder)) if (state := self._state(name))}
        self._seen = {name: self._since(name, state, now) for name, state in states.items()}
        self._left = {name: handled for name, handled in self._left.items() if states.get(name) == handled.state}
        return [self._folder / name for name, (_, since) in self._seen.items() if now - since >= self._config.settle]

    def _state(self, name: str) -> State | None:
        """What tells that a file changes; None for what is no finished file of our own."""
        if name.startswith(".") or name.endswith(UNFINISHED):
            return None
        try:
            return _state_of(os.lstat(self._folder / name))
        except FileNotFoundError:
            return None

    def _since(self, name: str, state: State, now: float) -> tuple[State, float]:
        before = self._seen.get(name)
        return before if before is not None and before[0] == state else (state, now)

    async def _handle(self, file: Path, predict: Predict) -> None:
        """Ask about a file, unless that was done, and move it aside. Raises ``OSError``."""
        handled = self._left.get(file.name)
        if handled is None and not self._is_full():
            handled = await self._ask(file, predict)
        if handled is None:
            return
        self._left[file.name] = handled
        await asyncio.to_thread(self._move_aside, file, handled)
        del self._left[file.name]

    def _is_full(self) -> bool:
        """Whether so many files cannot be moved that new ones had better wait as well."""
        return len(self._left) >= MOST_LEFT or sum(len(item.content) for item in self._left.values()) >= MOST_LEFT_BYTES

    async def _ask(self, file: Path, predict: Predict) -> Handled | None:
        """None where it is not there any more, or is another by now. Raises ``OSError`` where it cannot be read."""
        state, _ = self._seen[file.name]
        source = f"{self.name}#{file.name}".encode(errors="replace").decode()  # a name may be no text
        try:
            content = await asyncio.to_thread(self._read, file, state)
            rows = rows_of(content, self._config.payload or KINDS.get(file.suffix.lower(), "bytes"), len(content))
        except FileNotFoundError:
            return None  # whoever put it there took it away again, or put another there
        except ForwardpassError as error:
            self.count("read")
            self.fail(source, error.message)
            return Handled(state, True, error.message.encode())
        self.count("read")
        prediction = await self.ask(predict, rows, source, _id(file.name, state, content))
        if isinstance(prediction, str):
            return Handled(state, True, prediction.encode())
        return Handled(state, False, orjson.dumps({"id": prediction.id, "predictions": prediction.answers}))

    def _read(self, file: Path, state: State) -> bytes:
        """Raises ``FileNotFoundError`` where the file is not in this state any more."""
        if self._state(file.name) != state:  # it may be one that cannot even be opened
            raise FileNotFoundError(file)
        most = self._config.max_bytes
        with file.open("rb") as opened:
            if _state_of(os.fstat(opened.fileno())) != state:  # replaced since
                raise FileNotFoundError(file)
            content = opened.read(most + 1)
        if len(content) > most:
            raise TooLarge(f"{file.stat().st_size} bytes are more than max_bytes: {most} allows")
        return content

    def _move_aside(self, file: Path, handled: Handled) -> None:
        """The file, after what became of it: whoever sees the one finds the other beside it."""
        if not handled.failed and not self._config.keep:
            if self._is_there(file, handled.state):
                file.unlink()
            return
        place = _free(self._folder / (FAILED if handled.failed else DONE) / file.name)
        beside = place.with_name(place.name + (".error" if handled.failed else ".answer.json"))
        unfinished = beside.with_name(".unfinished")
        unfinished.write_bytes(handled.content + b"\n")
        if not self._is_there(file, handled.state):
            unfinished.unlink()
            return
        unfinished.replace(beside)
        file.rename(place)

    def _is_there(self, file: Path, state: State) -> bool:
        """Whether it is the file that was asked about, and not another of its name."""
        if self._state(file.name) == state:
            return True
        log.info("%s was replaced or taken away while it was asked about", file)
        return False


def _state_of(found: os.stat_result) -> State | None:
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _id(name: str, state: State, content: bytes) -> str:
    """The same for the same file, also after a restart; another for another file of this name and content."""
    facts = f"{name}\0{state[-1]}\0".encode(errors="surrogateescape")
    return hashlib.sha256(facts + content).hexdigest()[:32]


def _free(place: Path) -> Path:
    """The place, or one with a number where something of that name lies already."""
    number = 1
    found = place
    while found.exists():
        number += 1
        found = place.with_name(f"{place.stem}-{number}{place.suffix}")
    return found
