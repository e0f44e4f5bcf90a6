"""Two motors, a broker, a device and a cloud: run as `python examples/machine_health/demo.py`, about a minute.

What happens: the device answers every window of both motors; the network is cut and it goes on;
the network is back and the cloud gets what it missed, once; a new version is published and taken
over; a bad one is published, tried and taken back; one motor wears out and raises the alarm. Each
line says when and what; the exit code is 0 only if all of it happened. Needs mosquitto, and
`pip install aiomqtt tuf`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson

try:  # extras, which a first install does not bring
    import aiomqtt
    import tuf  # noqa: F401 - what `publish` and the agent use
except ModuleNotFoundError as missing:
    sys.exit(f"the demo needs {missing.name}: {sys.executable} -m pip install aiomqtt tuf")

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.machine_health.motor import Motor, create_motor
from examples.machine_health.stage import PATIENCE, Stage, Stopped

PAUSE = 0.1  # seconds between two windows of a motor
ZERO = 0.5  # g by which the zero of these sensors is off; no window that the model was tried with has that
LIFE = {"7": 150.0, "8": 2000.0}  # hours that each motor has left at the start
LAST = 2.0  # hours that motor 7 has left at the end


class Plant:
    """The motors' side of the broker: publishes their windows, and keeps what the device says of them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._random = np.random.default_rng(7)
        self._motors = {name: create_motor(self._random) for name in LIFE}
        self.remaining = dict(LIFE)
        self.told: Counter[str] = Counter()  # windows by motor
        self.heard: list[dict[str, Any]] = []  # answers, in their order
        self.alarms: list[dict[str, Any]] = []
        self._finished = False

    async def run(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._stage.broker) as client:
            await client.subscribe([("health/#", 1), ("motors/alarms", 1)])
            listening = asyncio.create_task(self._listen(client))
            try:
                while not self._finished:
                    for name, motor in self._motors.items():
                        await client.publish(f"motors/{name}/vibration", self._window(name, motor), qos=1)
                        self.told[name] += 1
                    await asyncio.sleep(PAUSE)
                await listening
            finally:
                listening.cancel()

    def finish(self) -> None:
        """No more windows; answers are still heard."""
        self._finished = True

    @property
    def missing(self) -> int:
        """Windows that were not answered, or not yet."""
        return self.told.total() - len(self.heard)

    def answers(self, version: str, since: int = 0) -> int:
        return sum(message["version"] == version for message in self.heard[since:])

    def state(self, motor: str) -> str:
        """The latest that the device says of a motor."""
        said = [message for message in self.heard if message["source"] == f"mqtt:motors/{motor}/vibration"]
        return _in_words(said[-1]["predictions"][0]) if said and said[-1]["predictions"] else "unknown"

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            kept = self.alarms if message.topic.matches("motors/alarms") else self.heard
            kept.append(orjson.loads(bytes(message.payload)))

    def _window(self, name: str, motor: Motor) -> bytes:
        window = motor.window(self.remaining[name], self._random) + np.float32(ZERO)
        return orjson.dumps([round(float(value), 3) for value in window])


class Timeline:
    """Says what happened, when, and remembers whether all went well."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.good = True

    def tell(self, who: str, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {who:8} {what}", flush=True)

    def check(self, happened: Any, who: str, what: str, otherwise: str) -> None:
        self.good &= bool(happened)
        self.tell(who, what if happened else f"NOT SO: {otherwise}")


async def main(folder: Path) -> bool:
    stage, line = Stage(folder), Timeline()
    plant = Plant(stage)
    try:
        await begin(stage, line)
        motors = asyncio.create_task(plant.run())
        await answer(stage, plant, line)
        await lose_the_network(stage, plant, line)
        await update(stage, plant, line)
        await refuse_a_bad_update(stage, plant, line)
        await wear_out(stage, plant, line)
        motors.cancel()
        with suppress(asyncio.CancelledError):
            await motors
    except Stopped as reason:
        line.check(False, "demo", "", str(reason))
    finally:
        stage.stop()
    line.tell("demo", "all of it happened" if line.good else "something did not happen")
    return line.good


async def begin(stage: Stage, line: Timeline) -> None:
    stage.write_versions()
    await stage.start_broker()
    line.tell("broker", f"mosquitto listens on port {stage.broker}")
    await stage.publish(1)
    line.tell("cloud", "version 1 is bundled, signed and published")
    await stage.start_cloud()
    line.tell("cloud", "listens, and takes in what devices send")
    await stage.start_agent()
    status = await stage.status()
    line.check(status.get("version") == "1", "device", "runs version 1", f"it does not run version 1: {status}")


async def answer(stage: Stage, plant: Plant, line: Timeline) -> None:
    await stage.until(_true(lambda: len(plant.heard) >= 20))
    line.check(plant.heard, "device", f"answers: motor 7 {plant.state('7')}, motor 8 {plant.state('8')}", "no answers")
    records = await stage.until(lambda: _records(stage))
    line.check(records, "cloud", f"{records} records have come in", "no record has come in")


async def lose_the_network(stage: Stage, plant: Plant, line: Timeline) -> None:
    await stage.cut()
    before, had = len(plant.heard), await _records(stage)
    line.tell("network", "cut between device and cloud")
    plant.remaining["7"] = 90.0
    await stage.until(_true(lambda: len(plant.heard) >= before + 100))
    answered, new = len(plant.heard) - before, await _records(stage) - had
    line.check(
        answered >= 100, "device", f"answered {answered} windows meanwhile", "stopped answering without a network"
    )
    line.check(new == 0, "cloud", "heard nothing meanwhile", f"{new} records came through a network that is cut")
    waiting = await _waiting(stage)
    line.check(waiting, "device", f"{waiting} entries wait in its outbox", "nothing waits in its outbox")
    await stage.restore()
    line.tell("network", "restored")
    caught_up = await stage.until(lambda: _at_least(_records(stage), had + answered))
    line.check(caught_up, "cloud", "has what it missed", "did not get what it missed")


async def update(stage: Stage, plant: Plant, line: Timeline) -> None:
    await stage.publish(2)
    line.tell("cloud", "version 2 is published")
    taken = await stage.until(lambda: _runs(stage, "2"))
    line.check(taken, "device", "fetched it, tried its golden rows, switched to it", "did not take version 2")
    kept = await stage.until(lambda: _kept(stage))
    line.check(kept, "device", "watched it for a while, and keeps it", "did not decide about version 2")
    answers = plant.answers("2")
    line.check(answers, "device", f"{answers} windows were answered by it", "version 2 answered nothing")


async def refuse_a_bad_update(stage: Stage, plant: Plant, line: Timeline) -> None:
    await stage.publish(3)
    line.tell("cloud", "version 3 is published; it is bad: real sensors kill it")
    reason = await stage.until(lambda: _taken_back(stage))
    line.check(reason, "device", f"tried it and took it back: {reason}", "did not take version 3 back")
    back = await stage.until(lambda: _runs(stage, "2"))
    since = len(plant.heard)
    await stage.until(_true(lambda: plant.answers("2", since) >= 20))
    line.check(back and plant.answers("2", since), "device", "version 2 answers as before", "version 2 is not back")


async def wear_out(stage: Stage, plant: Plant, line: Timeline) -> None:
    line.tell("motor 7", "wears out")
    while plant.remaining["7"] > LAST:
        plant.remaining["7"] *= 0.8
        await asyncio.sleep(2 * PAUSE)
    alarm = await stage.until(_true(lambda: plant.alarms))
    said = _in_words(alarm[0]["prediction"]) if alarm else ""
    line.check(alarm, "device", f"ALARM for {alarm[0]['source'] if alarm else ''}: {said}", "no alarm")
    good = not any("motors/8" in message["source"] for message in plant.alarms)
    line.check(good, "device", "none for motor 8", "there is an alarm for motor 8, which is healthy")
    plant.finish()
    await stage.until(_true(lambda: plant.missing == 0))
    failed = sum("error" in message for message in plant.heard)
    ids = {message["id"] for message in plant.heard}
    line.check(
        plant.missing == 0 and not failed and len(ids) == len(plant.heard),
        "device", f"answered each of {plant.told.total()} windows once; none was refused",
        f"{plant.missing} of {plant.told.total()} windows are not answered, {failed} failed",
    )  # fmt: skip
    whole = await stage.until(lambda: _at_least(_records(stage), len(plant.heard)))
    got = await _records(stage)
    line.check(
        whole and got == len(plant.heard), "cloud", f"has {got} records: one of each",
        f"it has {got} records of {len(plant.heard)} predictions",
    )  # fmt: skip


# What is asked of device and cloud


async def _records(stage: Stage) -> int:
    devices = (await stage.taken_in()).get("devices", [])
    return sum(device["entries"].get("record", 0) for device in devices)


async def _waiting(stage: Stage) -> int:
    return sum((await _service(stage, "outbox")).get("waiting", {}).values())


async def _runs(stage: Stage, version: str) -> bool:
    status = await stage.status()
    return bool(status.get("ready")) and status.get("version") == version


async def _kept(stage: Stage) -> bool:
    status = await stage.status()
    return bool(status) and status["watching"] is None


async def _taken_back(stage: Stage) -> str:
    failed = (await _service(stage, "updates")).get("failed")
    return failed["why"] if failed and failed["version"] == "3" else ""


async def _service(stage: Stage, name: str) -> dict[str, Any]:
    services = (await stage.status()).get("services", [])
    return next((service for service in services if service["name"] == name), {})


async def _at_least(number: Any, least: int) -> bool:
    return bool(await number >= least)


def _true(condition: Any) -> Any:
    async def holds() -> Any:
        return condition()

    return holds


def _in_words(answer: dict[str, Any]) -> str:
    return f"{answer['state']} ({answer['remaining_hours']:g} h left)"


async def until_stopped(folder: Path) -> bool:
    """The demo; a signal that asks it to end has it stop what it started."""
    task = asyncio.ensure_future(main(folder))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await asyncio.wait_for(task, 10 * PATIENCE)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="machine-health-") as name:
        sys.exit(0 if asyncio.run(until_stopped(Path(name))) else 1)
