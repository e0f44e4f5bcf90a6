"""MQTT topics as an input: QoS 1, a persistent session, each message one or more rows.

The library acknowledges a message as soon as it is here. So the broker delivers at least once, also
what was published while the device was away; what is here but not yet predicted when the agent
is killed is lost (at most ``max_waiting`` messages), and a message whose acknowledgement got lost
is predicted twice. The source is ``mqtt:TOPIC``. Knows no model.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import aiomqtt

from forwardpass.config import doc
from forwardpass.edge.inputs.aside import Aside
from forwardpass.edge.inputs.base import InputBase, Predict
from forwardpass.edge.inputs.payload import Payload, rows_of
from forwardpass.edge.mqtt import Broker, connect
from forwardpass.edge.waits import waits
from forwardpass.errors import ForwardpassError, InvalidSettings

log = logging.getLogger("forwardpass.edge")
LANES = 4  # messages of unlike topics that are predicted at once
REFUSED = 128  # reason codes of a subscription from here are refusals


@dataclass(frozen=True, kw_only=True)
class MqttInputConfig(Broker):
    """An entry of ``inputs:`` with ``type: mqtt``."""

    topics: tuple[str, ...] = field(metadata=doc("topics to subscribe to; `+` and `#` are wildcards"))
    payload: Payload = field(default="json", metadata=doc("what a message is: `json`, `text` or `bytes`"))
    max_waiting: int = field(default=1000, metadata=doc("most messages that wait; then the oldest are dropped"))
    max_bytes: int = field(default=16 * 1024 * 1024, metadata=doc("largest message"))
    failed: str | None = field(default=None, metadata=doc("folder for malformed messages; default: only counted"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.topics:
            raise InvalidSettings("inputs: mqtt: topics is empty; name at least one")
        if wrong := next((topic for topic in self.topics if not _valid(topic)), None):
            raise InvalidSettings(f"inputs: mqtt: {wrong!r} is no topic; + stands for a level, # for the last ones")
        if self.max_waiting < LANES or self.max_bytes < 1:
            raise InvalidSettings(f"inputs: mqtt: max_waiting must be at least {LANES}, max_bytes at least 1")


class MqttInput(InputBase):
    """See ``Input``. Messages of one topic are predicted in order, those of unlike topics side by side."""

    Config: ClassVar[type[MqttInputConfig]] = MqttInputConfig

    def __init__(self, config: MqttInputConfig, device: str, home: Path) -> None:
        super().__init__(f"mqtt:{','.join(config.topics)}", problem="not connected yet")
        self._config = config
        self._client_id = config.client_id or (f"forwardpass-{device}-in" if device else None)
        self._aside = Aside(home / config.failed if config.failed else None)
        self._lanes = [_Lane(config.max_waiting // LANES) for _ in range(LANES)]

    async def run(self, predict: Predict) -> None:
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(self._work(lane, predict))
            tasks.create_task(self._receive())

    async def _receive(self) -> None:
        """Stay subscribed; never ends."""
        pauses = waits()
        while True:
            try:
                async with connect(self._config, self._client_id) as client:
                    await self._subscribe(client)
                    self.problem, pauses = "", waits()
                    async for message in client.messages:
                        self._take(message.topic.value, message.payload)
            except (aiomqtt.MqttError, OSError, ForwardpassError) as error:
                problem = f"{self._config.url}: {error}"
                if self.problem != problem:
                    log.warning("%s: %s; trying again", self.name, problem)
                self.problem = problem
            await asyncio.sleep(next(pauses))

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        granted: Any = await client.subscribe([(topic, 1) for topic in self._config.topics])
        for topic, code in zip(self._config.topics, granted, strict=True):
            if code >= REFUSED if isinstance(code, int) else code.is_failure:
                raise aiomqtt.MqttError(f"the broker refuses the topic {topic!r} to this device")

    def _take(self, topic: str, payload: Any) -> None:
        self.count("read")
        lane = self._lanes[hash(topic) % LANES]
        self.count("dropped", lane.put(topic, bytes(payload or b"")))

    async def _work(self, lane: _Lane, predict: Predict) -> None:
        while True:
            topic, payload = await lane.get()
            source = f"mqtt:{topic}"
            try:
                rows = rows_of(payload, self._config.payload, self._config.max_bytes)
            except ForwardpassError as error:
                self.fail(source, error.message)
                await self._aside.put(topic, payload, error.message)
                continue
            refused = await self.ask(predict, rows, source)
            if isinstance(refused, str):
                await self._aside.put(topic, payload, refused)


class _Lane:
    """Messages that wait for one task; the oldest go where there is no more room."""

    def __init__(self, most: int) -> None:
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._most = most
        self._some = asyncio.Event()

    def put(self, topic: str, payload: bytes) -> int:
        """How many were dropped for it."""
        self._waiting.append((topic, payload))
        self._some.set()
        if len(self._waiting) <= self._most:
            return 0
        self._waiting.popleft()
        return 1

    async def get(self) -> tuple[str, bytes]:
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        return self._waiting.popleft()


def _valid(topic: str) -> bool:
    """Whether it may be subscribed to, by the rules of MQTT 3.1.1, section 4.7."""
    levels = topic.split("/")
    whole = all(level in ("+", "#") or not set(level) & {"+", "#", "\0"} for level in levels)
    return bool(topic) and whole and "#" not in levels[:-1] and len(topic.encode()) <= 65535
