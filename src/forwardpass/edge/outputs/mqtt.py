"""Messages published to an MQTT broker with QoS 1: the broker says that it has each one.

The connection is made when the first message is there, and again after it broke. A message whose
acknowledgement got lost is published twice. Knows no queue.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import aiomqtt
import orjson

from forwardpass.config import doc
from forwardpass.edge.mqtt import Broker, connect, reason
from forwardpass.edge.outputs.base import Undelivered
from forwardpass.edge.outputs.queue import MAX_WAITING
from forwardpass.errors import ForwardpassError, InvalidSettings

PLACES = ("{source}", "{model}")


@dataclass(frozen=True, kw_only=True)
class MqttOutputConfig(Broker):
    """An entry of ``outputs:`` with ``type: mqtt``."""

    topic: str = field(
        metadata=doc(
            "topic to publish to; `{source}` stands for the source, without kind and item, `{model}` for the model"
        )
    )
    retain: bool = field(default=False, metadata=doc("whether the broker keeps the last message for who comes later"))
    max_waiting: int = field(default=MAX_WAITING, metadata=doc("most messages that wait; then the oldest are dropped"))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_topic(self.topic)


class MqttSender:
    """See ``Sender``."""

    Config: ClassVar[type[MqttOutputConfig]] = MqttOutputConfig

    def __init__(self, config: MqttOutputConfig, home: Path) -> None:
        self.name = f"mqtt:{config.topic}"
        self._config = config
        self._client: aiomqtt.Client | None = None
        self._lost: asyncio.Future[None] | None = None
        self._stack = AsyncExitStack()

    async def deliver(self, message: dict[str, Any]) -> None:
        topic = fill(self._config.topic, message)
        try:
            await self._publish(topic, orjson.dumps(message))
        except (aiomqtt.MqttError, OSError, ForwardpassError) as error:
            await self.close()
            raise Undelivered(f"{self._config.url}: {reason(error)}", again=True) from None
        except ValueError as error:  # of the library, about the topic or the size
            raise Undelivered(f"{topic!r}: {error}", again=False) from None

    async def close(self) -> None:
        if self._lost is not None:
            self._lost.cancel()
            await asyncio.wait([self._lost])
        self._client = self._lost = None
        await self._stack.aclose()

    async def _publish(self, topic: str, payload: bytes) -> None:
        """Returns when the broker says that it has it; raises at once where the link breaks meanwhile."""
        if self._client is None or self._lost is None:
            self._client = await self._stack.enter_async_context(connect(self._config, self._config.client_id))
            self._lost = asyncio.ensure_future(_until_lost(self._client))
        publish = asyncio.ensure_future(self._client.publish(topic, payload, qos=1, retain=self._config.retain))
        try:
            await asyncio.wait([publish, self._lost], return_when=asyncio.FIRST_COMPLETED)
            if not publish.done():
                self._lost.result()
            await publish
        finally:
            publish.cancel()


async def _until_lost(client: aiomqtt.Client) -> None:
    """Raises ``MqttError`` when the connection breaks."""
    async for _ in client.messages:
        pass  # nothing is subscribed to


def check_topic(topic: str) -> None:
    """Raises ``InvalidSettings`` where nothing can be published to it."""
    rest = topic
    for place in PLACES:
        rest = rest.replace(place, "x")
    if not rest or re.search(r"[+#\0{}]", rest) or len(rest.encode()) > 60_000:
        raise InvalidSettings(
            f"mqtt: {topic!r} is no topic to publish to; it must hold no + and no #, and in braces only"
            f" {' and '.join(PLACES)}"
        )


def fill(topic: str, message: dict[str, Any]) -> str:
    """The topic of one message; what a topic must not hold becomes ``_``."""
    whole = str(message.get("source", "")).partition("#")[0]  # without the item, as rules count
    source = whole.partition(":")[2] or whole or "unknown"
    return topic.replace("{model}", _plain(str(message.get("model", "")))).replace("{source}", _plain(source))


def _plain(text: str) -> str:
    return re.sub(r"[+#\0]", "_", text)
