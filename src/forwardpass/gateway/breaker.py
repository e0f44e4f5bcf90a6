"""A circuit breaker: stops asking what has failed again and again, and finds out by one try when it works again.

    closed ── failures in a row, or a share of the last ones ──► open ── after a while ──► half open: one probe
       ▲                                                           ▲                            │
       └──────────────────────── it succeeded ─────────────────────┴──── it failed: longer ─────┘

Knows neither what is asked nor why it failed; the clock is handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum

IN_A_ROW = 5  # failures that open it
SHARE, OF_LAST, AT_LEAST = 0.5, 20, 10  # so much of so many tries, once there were at least so many
FIRST_REST = 1.0  # seconds that it stays open, twice as long after each probe that fails
LONGEST_REST = 30.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """``begin`` before each try that ``allows`` permits, then exactly one of the other three."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.opened = 0  # times
        self._clock = clock
        self._state = BreakerState.CLOSED
        self._rest = FIRST_REST
        self._until = 0.0
        self._probing = False
        self._in_a_row = 0
        self._last: deque[bool] = deque(maxlen=OF_LAST)  # whether each failed

    @property
    def state(self) -> BreakerState:
        if self._state is BreakerState.OPEN and self._clock() >= self._until:
            return BreakerState.HALF_OPEN
        return self._state

    def allows(self) -> bool:
        """Whether a try may begin now."""
        state = self.state
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self._probing)

    def begin(self) -> None:
        self._state = self.state
        if self._state is BreakerState.HALF_OPEN:
            self._probing = True

    def succeeded(self) -> None:
        if self._state is BreakerState.HALF_OPEN:
            self._close()
        elif self._state is BreakerState.CLOSED:
            self._in_a_row = 0
            self._last.append(False)

    def failed(self) -> None:
        if self._state is BreakerState.HALF_OPEN:
            self._rest = min(LONGEST_REST, 2 * self._rest)
            self._open()
        elif self._state is BreakerState.CLOSED:
            self._in_a_row += 1
            self._last.append(True)
            if self._in_a_row >= IN_A_ROW or (
                len(self._last) >= AT_LEAST and sum(self._last) >= SHARE * len(self._last)
            ):
                self._open()

    def abandoned(self) -> None:
        """A try ended that says nothing either way: given up, or refused for want of room."""
        self._probing = False

    def probe_now(self) -> None:
        """Something else says that it may work again: no need to wait longer."""
        if self._state is BreakerState.OPEN:
            self._until = self._clock()

    def _open(self) -> None:
        self.opened += 1
        self._state = BreakerState.OPEN
        self._until = self._clock() + self._rest
        self._probing = False

    def _close(self) -> None:
        self._state = BreakerState.CLOSED
        self._rest = FIRST_REST
        self._probing = False
        self._in_a_row = 0
        self._last.clear()
