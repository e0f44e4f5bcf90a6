"""Devices for tests: bundles of tiny models, and what an agent runs of them, in this process or in its own.

``device`` is an agent's inside with real workers; ``agent`` is the program with its home.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forwardpass.config import Settings
from forwardpass.edge import signing
from forwardpass.edge.build import build
from forwardpass.edge.bundle import unpack
from forwardpass.edge.deployment import Deployment
from forwardpass.edge.home import Home
from forwardpass.edge.predictor import Predictor
from forwardpass.edge.rates import Rates
from forwardpass.edge.settings import WatchSettings
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.status import ask
from forwardpass.engine.starter import Starter
from forwardpass.errors import NotReady
from forwardpass.server.composed import Composer
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.records import Recorder

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
START = 60.0  # seconds in which an agent must be there, on a machine that does much else


@dataclass(frozen=True)
class Factory:
    """Where bundles are made; ``trust`` is the key that devices need."""

    folder: Path

    @property
    def trust(self) -> Path:
        return signing.public_file(self._key)

    @property
    def _key(self) -> Path:
        file = self.folder / "factory.key"
        if not file.exists():
            signing.create_key(file)
        return file

    def bundle(self, model: Path, rows: list[Any] | None = None) -> Path:
        """The bundle of a model folder, its newest version."""
        key = signing.read_private_key(self._key)
        return build(model, key, self.folder / f"{model.name}-{time.monotonic_ns()}.bundle", rows=rows or ()).path

    def install(self, home: Home, model: Path, rows: list[Any] | None = None) -> Slot:
        """A model unpacked into the slot of a home that is free."""
        home.create()
        slots = Slots(home)
        folder = slots.free()
        unpack(self.bundle(model, rows), folder, signing.read_public_keys(self.trust))
        return slots.read(folder)


# In this process


def never() -> socket.socket:
    raise AssertionError("one front needs no further socket")


class Device:
    """What an agent runs, without its doors."""

    def __init__(self, starter: Starter, watch: WatchSettings, composer: Composer | None) -> None:
        self.rates = Rates(time.monotonic)
        self.dataplane = DataPlane(Recorder((self.rates,)))
        settings = Settings(drain_timeout=5.0, cores=1, fronts=1)
        self.control = Control(self.dataplane, starter, settings, (), Fronts(settings, never, 0), composer)
        self.deployment = Deployment(self.control, self.dataplane, self.rates, watch, time.monotonic)
        self.predictor = Predictor(self.dataplane, "", asking=self.deployment.ask)

    async def start(self, slot: Slot, *, golden: bool = False) -> None:
        await self.deployment.start(slot, golden=golden)
        self.predictor.model = slot.manifest.model


@contextlib.asynccontextmanager
async def device(
    starter: Starter, watch: WatchSettings | None = None, composer: Composer | None = None
) -> AsyncIterator[Device]:
    """Stopped for sure, and nothing is left that was tried."""
    made = Device(starter, watch or WatchSettings(seconds=0.0), composer)
    try:
        yield made
    finally:
        await made.control.stop()
    assert made.dataplane.all() == []


def run(starter: Starter, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a device's kind of loop; what a callback raises fails the test."""
    wrong: list[dict[str, Any]] = []

    async def inside() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: wrong.append(context))
        starter.listen(loop)
        await main()

    asyncio.run(inside())
    assert wrong == []


# In a process of its own


@dataclass
class AgentProcess:
    """A running agent; ``log`` is the file with what it said."""

    home: Home
    process: subprocess.Popen[bytes]
    log: Path
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.status["address"].rpartition(":")[2])

    def ask_status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask(self.home.socket)
        return status

    def until(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Its status once something is true of it."""
        end = time.monotonic() + START
        while True:
            with contextlib.suppress(NotReady):
                status = self.ask_status()
                if true(status):
                    self.status = status
                    return status
            said = self.log.read_text()
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{said}"
            assert time.monotonic() < end, f"waited too long:\n{said}"
            time.sleep(0.02)


PROGRAM = (sys.executable, "-m", "forwardpass.device", "agent")


def command(home: Home, *words: str, program: Sequence[str] = PROGRAM) -> list[str]:
    return [*program, "--home", str(home.folder), *words]


@contextlib.contextmanager
def agent(
    home: Home, *words: str, wait: bool = True, program: Sequence[str] = PROGRAM, **popen: Any
) -> Iterator[AgentProcess]:
    """An agent of a home on a free port, ready where it is waited for; it and its worker are gone afterwards."""
    home.folder.mkdir(parents=True, exist_ok=True)
    log = home.folder.parent / f"agent-{time.monotonic_ns()}.log"
    with log.open("wb") as said:
        options: dict[str, Any] = {"stdout": said, "stderr": said, "stdin": subprocess.DEVNULL} | popen
        line = command(home, "--port", "0", *words, program=program)
        process = subprocess.Popen(line, start_new_session=True, **options)
    made = AgentProcess(home, process, log)
    try:
        if wait:
            made.until(lambda status: bool(status["ready"]))
        yield made
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM; the exit status. Killed with all of its group where that does not do."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(30)


def rows_of_digits() -> list[Any]:
    """Golden rows of the digits bundle would do; these are the sample as V1 sends it."""
    import base64

    image = (EXAMPLES / "digits" / "sample.png").read_bytes()
    return [{"b64": base64.b64encode(image).decode()}]


def write_settings(home: Home, settings: dict[str, Any]) -> None:
    """``agent.yaml``; JSON is YAML."""
    home.folder.mkdir(parents=True, exist_ok=True)
    home.settings.write_text(json.dumps(settings), encoding="utf-8")
