"""MQTT topics as an input: QoS 1, a persistent session, each message one or more rows.

A message is acknowledged when it is answered, or cannot be: whatever happens to the agent meanwhile, the broker
has it yet, and sends it again. So each is predicted at least once, also what was published while the device was away;
one that was predicted just before the agent was killed is predicted twice, under another id. How many are here at a
time, the broker says. The source is ``mqtt:TOPIC``. Knows no model.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import aiomqtt

from forwardpass.config import doc
from forwardpass.edge.inputs.aside import Aside
from forwardpass.edge.inputs.base import InputBase, Predict
from forwardpass.edge.inputs.deliveries import Deliveries, Delivery
from forwardpass.edge.inputs.lanes import Lane, Lanes
from forwardpass.edge.inputs.payload import Payload, rows_of
from forwardpass.edge.mqtt import Broker, acknowledge, connect, reason, session_present
from forwardpass.edge.waits import waits
from forwardpass.errors import ForwardpassError, InvalidSettings

log = logging.getLogger("forwardpass.edge")
LANES = 4  # messages of unlike topics that are predicted at once
AT_FIRST = "not connected yet"
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
        super().__init__(f"mqtt:{','.join(config.topics)}", problem=AT_FIRST)
        self._config = config
        self._client_id = config.client_id or (f"forwardpass-{device}-in" if device else None)
        self._aside = Aside(home / config.failed if config.failed else None)
        self._begin()

    def _begin(self) -> None:
        """With nothing waiting: the broker has it all yet."""
        self._deliveries = Deliveries()
        self._lanes: Lanes[Delivery] = Lanes(LANES, self._config.max_waiting)

    async def run(self, predict: Predict) -> None:
        self._begin()
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(self._receive())
            working = [tasks.create_task(self._work(lane, predict)) for lane in self._lanes.lanes]
            await self.stopping.wait()
            self._lanes.end()
            await asyncio.wait(working)
            receiving.cancel()  # last: acknowledgements go by its connection

    async def _receive(self) -> None:
        """Stay subscribed; never ends."""
        pauses = waits()
        while True:
            try:
                async with connect(self._config, self._client_id, by_hand=True) as client:
                    self._deliveries.connected(partial(acknowledge, client), same_session=session_present(client))
                    await self._subscribe(client)
                    pauses = waits()
                    self._connected()
                    await self._take_all(client)
            except (aiomqtt.MqttError, OSError, ForwardpassError) as error:
                problem = f"{self._config.url}: {reason(error)}"
                if self.problem != problem:
                    log.warning("%s: %s; trying again", self.name, problem)
                self.problem = problem
            await asyncio.sleep(next(pauses))

    def _connected(self) -> None:
        if self.problem not in ("", AT_FIRST):
            log.info("%s: connected again", self.name)
        self.problem = ""

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        granted: Any = await client.subscribe([(topic, 1) for topic in self._config.topics])
        for topic, code in zip(self._config.topics, granted, strict=True):
            if code >= REFUSED if isinstance(code, int) else code.is_failure:
                raise aiomqtt.MqttError(f"the broker refuses the topic {topic!r} to this device")

    async def _take_all(self, client: aiomqtt.Client) -> None:
        """Until the connection breaks, or this is cancelled."""
        try:
            async for message in client.messages:
                if not self.stopping.is_set():  # else the broker sends it another time
                    self._take(message)
        finally:
            self._deliveries.disconnected()

    def _take(self, message: aiomqtt.Message) -> None:
        topic, payload = message.topic.value, bytes(message.payload or b"")
        once = message.qos == 0  # it was published so: nobody waits for an acknowledgement
        delivery = Delivery(topic, payload) if once else self._deliveries.take(message.mid, topic, payload)
        if delivery is None:
            return
        self.count("read")
        dropped = self._lanes.put(topic, delivery)
        if dropped is not None:
            self.count("dropped")
            self._deliveries.settle(dropped)

    async def _work(self, lane: Lane[Delivery], predict: Predict) -> None:
        while (delivery := await lane.next()) is not None:
            await self._answer(delivery, predict)
            self._deliveries.settle(delivery)

    async def _answer(self, delivery: Delivery, predict: Predict) -> None:
        source = f"mqtt:{delivery.topic}"
        try:
            rows = rows_of(delivery.payload, self._config.payload, self._config.max_bytes)
        except ForwardpassError as error:
            self.fail(source, error.message)
            await self._aside.put(delivery.topic, delivery.payload, error.message)
            return
        refused = await self.ask(predict, rows, source)
        if isinstance(refused, str):
            await self._aside.put(delivery.topic, delivery.payload, refused)


def _valid(topic: str) -> bool:
    """Whether it may be subscribed to, by the rules of MQTT 3.1.1, section 4.7."""
    levels = topic.split("/")
    whole = all(level in ("+", "#") or not set(level) & {"+", "#", "\0"} for level in levels)
    return bool(topic) and whole and "#" not in levels[:-1] and len(topic.encode()) <= 65535
