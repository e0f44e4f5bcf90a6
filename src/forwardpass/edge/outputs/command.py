"""A program run for each message, one after another: the message as a line of JSON on its standard input.

It has a time limit; then it is killed with all that it started. Done is what ends with status 0;
a program that fails is not run again for the same message. No shell is involved, and nothing of the
message becomes an argument. Knows no queue.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import orjson

from forwardpass.config import doc
from forwardpass.edge.outputs.base import Undelivered
from forwardpass.errors import InvalidSettings

MAX_WAITING = 100  # messages: a program each


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """An entry of ``outputs:`` with ``type: command``."""

    command: tuple[str, ...] = field(metadata=doc("program and arguments"))
    timeout: float = field(default=10.0, metadata=doc("seconds after which it is killed"))
    max_waiting: int = field(default=MAX_WAITING, metadata=doc("most messages that wait; then the oldest are dropped"))

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise InvalidSettings("outputs: command: command is empty; give the program and its arguments")
        if not 0 < self.timeout < math.inf:
            raise InvalidSettings(f"outputs: command: timeout must be above 0, got {self.timeout}")


class CommandSender:
    """See ``Sender``."""

    Config: ClassVar[type[CommandConfig]] = CommandConfig

    def __init__(self, config: CommandConfig, home: Path) -> None:
        self.name = f"command:{Path(config.command[0]).name}"
        self._config = config
        self._home = home

    async def deliver(self, message: dict[str, Any]) -> None:
        process = await self._start()
        try:
            async with asyncio.timeout(self._config.timeout):
                await process.communicate(orjson.dumps(message) + b"\n")
        except TimeoutError:
            raise Undelivered(f"{self.name} took longer than {self._config.timeout:g} s", again=False) from None
        finally:
            await _end(process)
        if process.returncode:
            raise Undelivered(f"{self.name} ended with status {process.returncode}", again=False)

    async def close(self) -> None:
        return

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._config.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                cwd=self._home,
                start_new_session=True,
            )
        except OSError as error:
            raise Undelivered(f"{self._config.command[0]} cannot be run: {error}", again=False) from None


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it and what it started, unless it has ended by itself."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
