"""Messages posted to a URL as JSON, a request each.

Taken is what is answered with 2xx. No answer, 429 and 5xx are tried again, the last two a bounded
number of times, anything else is final. ``Idempotency-Key`` tells one that is sent twice from
another about the same prediction. Knows no queue.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from forwardpass.address import Address
from forwardpass.config import doc
from forwardpass.edge import client
from forwardpass.edge.outputs.base import Undelivered
from forwardpass.edge.outputs.queue import MAX_WAITING
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidSettings

TRIES = 10  # of a message that a server answers with 429 or 5xx


@dataclass(frozen=True, kw_only=True)
class WebhookConfig:
    """An entry of ``outputs:`` with ``type: webhook``."""

    url: str = field(metadata=doc("`http://` or `https://` URL to post to"))
    headers: dict[str, str] = field(default_factory=dict, metadata=doc("headers to send as well"))
    timeout: float = field(default=10.0, metadata=doc("seconds in which it must answer"))
    max_waiting: int = field(default=MAX_WAITING, metadata=doc("most messages that wait; then the oldest are dropped"))

    def __post_init__(self) -> None:
        try:
            Address.of(self.url)
        except InvalidInput:
            raise InvalidSettings(
                "outputs: webhook: url must be like https://host/path, and hold no user and no password: headers can"
                " say those; it is not shown here, because it may hold a secret"
            ) from None
        if not 0 < self.timeout < math.inf:
            raise InvalidSettings(f"outputs: webhook: timeout must be above 0, got {self.timeout}")


class WebhookSender:
    """See ``Sender``."""

    Config: ClassVar[type[WebhookConfig]] = WebhookConfig

    def __init__(self, config: WebhookConfig, home: Path) -> None:
        self.name = f"webhook:{Address.of(config.url).authority}"  # its path may be a secret
        self._config = config
        self._tries = 0  # of the message that is under way

    async def deliver(self, message: dict[str, Any]) -> None:
        headers = {**self._config.headers, "content-type": "application/json"}
        body = orjson.dumps(message)
        if "id" in message:
            headers["idempotency-key"] = _key(message, body)
        try:
            response = await client.post(self._config.url, body, headers, timeout=self._config.timeout)
        except InvalidInput as error:
            raise Undelivered(error.message, again=False) from None
        except ForwardpassError as error:
            raise Undelivered(error.message, again=True) from None
        self._judge(response.status)

    async def close(self) -> None:
        return

    def _judge(self, status: int) -> None:
        """Raise where the message was not taken."""
        self._tries += 1
        again = (status == 429 or status >= 500) and self._tries < TRIES
        if not again:
            self._tries = 0
        if not 200 <= status < 300:
            raise Undelivered(f"{self.name} answered {status}", again=again)


def _key(message: dict[str, Any], body: bytes) -> str:
    """The prediction's id, which may be any text; with what tells a rule's message, or a correction, from it."""
    key = quote(str(message["id"]), safe="/:")
    other = "rule" in message or "corrected" in message
    return f"{key}-{hashlib.sha256(body).hexdigest()[:16]}" if other else key
