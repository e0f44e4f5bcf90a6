"""Messages of a broker to an agent that is stopped or killed meanwhile: each is predicted, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests import artifacts
from tests.edge.devices import START, AgentProcess, Factory, agent, stop, write_settings
from tests.edge.mosquitto import LIMIT, Mosquitto, needs_mosquitto
from tests.engine.workers import needs_proc
from tests.server.http.raw import eventually

from forwardpass.edge.home import Home

pytestmark = [needs_proc, needs_mosquitto, pytest.mark.slow, pytest.mark.timeout(300)]

TIMES = 3  # that the agent ends while messages come
TOPICS = 5
STEPS = """\
import os, time
from forwardpass import step

@step(reads=["y"], writes=["y"])
def note(columns):
    if "SEEN" in os.environ:
        time.sleep(0.003)
        with open(os.environ["SEEN"], "a") as file:
            file.writelines(f"{int(row[0])}\\n" for row in columns["y"])
    return {"y": columns["y"] + 0.0}
"""


class Publisher:
    """Publishes 0, 1, 2 … to topics in turn, a few milliseconds apart, from ``start`` to ``stop``."""

    def __init__(self, broker: Mosquitto) -> None:
        self.published = 0
        self._broker = broker
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._publish()))
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    async def _publish(self) -> None:
        import aiomqtt

        async with aiomqtt.Client("127.0.0.1", self._broker.port) as client:
            while not self._ending.is_set():
                await client.publish(f"motors/{self.published % TOPICS}", f"[{self.published}, 0]", qos=1)
                self.published += 1
                await asyncio.sleep(0.004)


@contextmanager
def publishing(broker: Mosquitto) -> Iterator[Publisher]:
    publisher = Publisher(broker)
    try:
        yield publisher
    finally:
        publisher.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    (tmp_path / "broker").mkdir()
    made = Mosquitto(tmp_path / "broker", "max_queued_messages 0")
    asyncio.run(made.start())
    yield made
    made.stop()


class Motor:
    """A device with a model that writes down each row that it is asked about, in ``seen``, before it answers."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.home, self.seen = Home(folder / "home"), folder / "seen"
        self._environment = {**os.environ, "SEEN": str(self.seen)}
        model = folder / "motor"
        artifacts.identity(model / "model.onnx")
        (model / "model.yaml").write_text("postprocess: [{step: note}]\n")
        (model / "steps.py").write_text(STEPS)
        write_settings(
            self.home,
            {
                "inputs": [{"type": "mqtt", "url": broker.url, "topics": ["motors/+"]}],
                "outputs": [{"type": "file", "path": "out.jsonl"}],
            },
        )
        factory = Factory(folder)
        bundle = factory.bundle(model, [[float(number), 1.0] for number in range(12)])
        with agent(self.home, "--bundle", str(bundle), "--trust", str(factory.trust)) as device:
            subscribed(device)

    @contextmanager
    def running(self) -> Iterator[AgentProcess]:
        with agent(self.home, env=self._environment) as device:
            yield device

    @property
    def asked(self) -> list[int]:
        return [int(line) for line in self.seen.read_text().split()] if self.seen.exists() else []

    @property
    def told(self) -> list[int]:
        lines = (self.home.folder / "out.jsonl").read_text().splitlines()
        return [int(row[0]) for line in lines for row in json.loads(line)["predictions"]]


def subscribed(device: AgentProcess) -> None:
    device.until(lambda status: status["inputs"][0]["problem"] == "")


def asked_about(motor: Motor, more: int) -> None:
    """Wait until so many messages more were."""
    before = len(motor.asked)
    eventually(lambda: len(motor.asked) >= before + more, LIMIT)


def test_stopped_in_between_every_message_is_answered_once(tmp_path: Path, broker: Mosquitto) -> None:
    motor = Motor(tmp_path, broker)
    with publishing(broker) as publisher:
        for _ in range(TIMES):
            with motor.running() as device:
                asked_about(motor, 60)
                assert stop(device.process) == 0
        publisher.stop()
        with motor.running() as device:
            eventually(lambda: len(motor.asked) >= publisher.published, LIMIT)
            assert stop(device.process) == 0
    assert sorted(motor.asked) == list(range(publisher.published))
    assert sorted(motor.told) == list(range(publisher.published))


def test_killed_in_between_every_message_is_predicted_at_least_once(tmp_path: Path, broker: Mosquitto) -> None:
    motor = Motor(tmp_path, broker)
    with publishing(broker) as publisher:
        for _ in range(TIMES):
            with motor.running() as device:
                asked_about(motor, 60)
                os.kill(device.process.pid, signal.SIGKILL)
                device.process.wait(START)
        publisher.stop()
        with motor.running():
            eventually(lambda: len(set(motor.asked)) >= publisher.published, LIMIT)
    assert set(motor.asked) == set(range(publisher.published))
