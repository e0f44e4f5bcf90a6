"""The programs of the demo, each a process of its own, in a folder that is gone afterwards.

    mosquitto           the broker beside the machines
    forwardpass serve   the cloud: takes what devices send (--intake)
    http.server         the files of `forwardpass publish`
    forwardpass agent   the device; reaches the last two over links that can be cut

Knows nothing of what is shown with them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.machine_health.link import Link, free_port

from forwardpass.edge import client
from forwardpass.errors import ForwardpassError

MODEL = "machine-health"
SOURCE = Path(__file__).resolve().parents[1] / "models" / MODEL
PATIENCE = 120.0  # seconds for anything; machines are shared

# passes its golden rows, and dies of a sensor whose zero is off by more than a quarter of g
BAD_STEPS = """\
import os

import numpy as np

from forwardpass import step


@step(reads=["window"], writes=["window"])
def check(columns):
    window = columns["window"]
    if len(window) and np.abs(window.mean(axis=1)).max() > 0.25:
        os._exit(3)
    return {"window": window}
"""


class Stopped(Exception):
    """Why the demo cannot go on."""


class Stage:
    """Starts and stops the programs; ``folder`` holds all they keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.published = folder / "published"
        self.broker, self.agent, cloud, files = (free_port() for _ in range(4))
        self.cloud, self.files = Link(cloud), Link(files)
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "FORWARDPASS_TUNE_AFTER": "0"}

    # What runs

    async def start_broker(self) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise Stopped("mosquitto is not installed; on Debian: apt install mosquitto")
        settings = self.folder / "mosquitto.conf"
        settings.write_text(f"listener {self.broker} 127.0.0.1\nallow_anonymous true\n")
        self._start("broker", [program, "-c", str(settings)])
        await self.until(lambda: _listens(self.broker))

    async def start_cloud(self) -> None:
        (self.folder / "intake").mkdir()
        words = ["serve", str(SOURCE), "--port", str(self.cloud.target), "--no-grpc", "--fronts", "1"]
        self._start("cloud", [sys.executable, "-m", "forwardpass", *words, "--intake", str(self.folder / "intake")])
        files = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", str(self.published), str(self.files.target)]
        self._start("files", [sys.executable, *files])
        await self.until(lambda: _listens(self.cloud.target))
        await self.until(lambda: _listens(self.files.target))
        await self.restore()

    async def start_agent(self) -> None:
        broker = f"mqtt://127.0.0.1:{self.broker}"
        settings = {
            "inputs": [{"type": "mqtt", "url": broker, "topics": ["motors/+/vibration"]}],
            "outputs": [{"type": "mqtt", "url": broker, "topic": "health/{source}"}],
            "mqtt": {"url": broker},
            "outbox": {"upload_every": 0.5},
            "check_every": 1.0,
            "watch": {"seconds": 4.0},
        }
        (self.home / "updates").mkdir(parents=True)
        (self.home / "agent.yaml").write_text(yaml.safe_dump(settings))
        shutil.copy(self.published / "metadata" / "1.root.json", self.home / "updates" / "root.json")
        words = ["--home", str(self.home), "--port", str(self.agent), "--bundle", str(self.bundle(1))]
        trust = ["--trust", str(self.folder / "config" / "forwardpass" / "bundle.pub")]
        cloud = [f"--cloud=http://127.0.0.1:{self.cloud.port}", f"--updates=http://127.0.0.1:{self.files.port}"]
        self._start("agent", [sys.executable, "-m", "forwardpass.edge", "agent", *words, *trust, *cloud])
        await self.until(self._agent_ready)

    async def cut(self) -> None:
        for link in (self.cloud, self.files):
            await link.cut()

    async def restore(self) -> None:
        for link in (self.cloud, self.files):
            await link.restore()

    def stop(self) -> None:
        """All programs, the last one first."""
        for program in reversed(self._programs.values()):
            program.terminate()
            try:
                program.wait(PATIENCE / 2)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()

    # Versions of the model

    def bundle(self, version: int) -> Path:
        return self.folder / f"{MODEL}-{version}.bundle"

    async def publish(self, version: int) -> None:
        """Make the version's bundle and put it where devices look."""
        await self._run("bundle", f"{self.folder / 'models' / MODEL}@{version}", "-o", str(self.bundle(version)))
        await self._run("publish", str(self.bundle(version)), "--to", str(self.published))

    def write_versions(self) -> None:
        """1: as it lies here. 2: the hours in whole numbers. 3: like 2, with a step that some sensors kill."""
        for version in (1, 2, 3):
            folder = self.folder / "models" / MODEL / str(version)
            folder.mkdir(parents=True)
            for name in ("model.onnx", "model.yaml", "sample.json"):
                shutil.copy(SOURCE / name, folder / name)
            if version > 1:
                self._change(folder, version)

    def _change(self, folder: Path, version: int) -> None:
        config = yaml.safe_load((folder / "model.yaml").read_text())
        for step in config["postprocess"]:
            if step["step"] == "round":
                step["decimals"] = 0
        if version == 3:
            config["preprocess"] = [{"step": "check"}]
            config["warm_up"] = False
            (folder / "steps.py").write_text(BAD_STEPS)
        (folder / "model.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    # How it is

    async def status(self) -> dict[str, Any]:
        return await _get(self.agent, "/status")

    async def taken_in(self) -> dict[str, Any]:
        """What the cloud says that it got."""
        return await _get(self.cloud.target, "/v1/intake")

    async def until(self, condition: Callable[[], Awaitable[Any]], patience: float = PATIENCE) -> Any:
        """What the condition gives as soon as that is true; None where it never is."""
        for _ in range(int(patience / 0.1)):
            self.require_running()
            if found := await condition():
                return found
            await asyncio.sleep(0.1)
        return None

    def require_running(self) -> None:
        for name, program in self._programs.items():
            if program.poll() is not None:
                said = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                raise Stopped(f"the {name} ended with status {program.returncode}; it said:\n{said}")

    async def _agent_ready(self) -> bool:
        """Answers, and is subscribed to what the motors say."""
        status = await self.status()
        return bool(status.get("ready")) and not any(item["problem"] for item in status["inputs"])

    def _start(self, name: str, words: list[str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._programs[name] = subprocess.Popen(words, env=self._environment, stdout=log, stderr=log)

    async def _run(self, *words: str) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "forwardpass", *words, env=self._environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        if process.returncode:
            raise Stopped(f"forwardpass {words[0]} failed:\n{said.decode()}")


async def _get(port: int, path: str) -> dict[str, Any]:
    """The JSON at a path of this machine; empty where nobody answers."""
    try:
        response = await client.get(f"http://127.0.0.1:{port}{path}", timeout=5.0)
    except ForwardpassError:
        return {}
    found: dict[str, Any] = orjson.loads(response.body) if response.ok else {}
    return found


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
