"""Messages between their arrival and their acknowledgement, in the terms of MQTT's QoS 1.

A message is acknowledged once it is settled (answered, set aside or dropped), in the order of arrival, as MQTT asks,
and to the connection that it came by. After a reconnect the broker sends again what it has no acknowledgement of,
under the same number: that is the same delivery, not asked about twice. Knows no client library and no payload.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class Delivery:
    """One message."""

    topic: str
    payload: bytes
    settled: bool = False


class Deliveries:
    """Those that the broker may send again."""

    def __init__(self) -> None:
        self._open: deque[tuple[int, Delivery]] = deque()  # of this connection, in the order of arrival
        self._before: dict[int, Delivery] = {}  # of the connections before it; at most one for each number
        self._acknowledge: Callable[[int], None] = lambda number: None

    def connected(self, acknowledge: Callable[[int], None], *, same_session: bool) -> None:
        """A connection was made; in another session than before, the broker sends nothing again."""
        if not same_session:
            self._before.clear()
        self._acknowledge = acknowledge

    def disconnected(self) -> None:
        """From now on nobody can be told, until the broker has sent them again."""
        self._before |= dict(self._open)
        self._open.clear()

    def take(self, number: int, topic: str, payload: bytes) -> Delivery | None:
        """What is to be answered; None where that is under way, or done, since the connection before."""
        before = self._before.pop(number, None)
        again = before is not None and (before.topic, before.payload) == (topic, payload)
        delivery = before if again and before is not None else Delivery(topic, payload)
        self._open.append((number, delivery))
        self._tell()
        return None if again else delivery

    def settle(self, delivery: Delivery) -> None:
        """Nothing more is to be done about it."""
        delivery.settled = True
        self._tell()

    def _tell(self) -> None:
        while self._open and self._open[0][1].settled:
            self._acknowledge(self._open.popleft()[0])
