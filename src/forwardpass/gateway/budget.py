"""What a cascade may spend on asking its next model: a share of the rows of late, and money in a day.

Decides at once and never makes anybody wait: what may not be asked keeps the answer it has. Counts start anew with the
process. The clock is handed in; knows no models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from forwardpass.config import EscalationConfig

WINDOW = 1000  # rows whose share is looked at; those not seen yet count as not escalated
DAY = 24 * 60 * 60.0


class EscalationBudget:
    """``wall_clock`` gives seconds since the epoch; a day begins at midnight UTC by it."""

    def __init__(self, config: EscalationConfig, wall_clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = wall_clock
        self._late: deque[tuple[int, int]] = deque()  # rows of a request, and how many of them were escalated
        self._rows = 0
        self._escalated = 0
        self._day = -1
        self._spent = 0.0

    @property
    def spent(self) -> float:
        """What today's rows have cost, in the money of ``price``."""
        self._turn()
        return self._spent

    def share(self, rows: int, unsure: int) -> int:
        """How many of the ``unsure`` among a request's ``rows`` the share allows; they count as escalated."""
        room = max(0, WINDOW - rows)
        while self._rows > room:
            self._forget(self._rows - room)
        most = int(self._config.max_share * max(WINDOW, rows) + 1e-9)
        granted = max(0, min(unsure, most - self._escalated))
        self._late.append((rows, granted))
        self._rows += rows
        self._escalated += granted
        return granted

    def pay(self, rows: int) -> int:
        """How many of these rows the day's money is enough for; they are paid."""
        self._turn()
        price, most = self._config.price, self._config.max_cost_per_day
        if most is not None and price > 0:
            rows = max(0, min(rows, int((most - self._spent) / price + 1e-9)))
        self._spent += rows * price
        return rows

    def refund(self, rows: int) -> None:
        """They were not asked about after all."""
        self._spent = max(0.0, self._spent - rows * self._config.price)

    def _turn(self) -> None:
        today = int(self._clock() // DAY)
        if today != self._day:
            self._day, self._spent = today, 0.0

    def _forget(self, surplus: int) -> None:
        """The oldest rows leave the window; of a request that leaves in part, those that were not escalated first."""
        rows, escalated = self._late.popleft()
        leaving = min(rows, surplus)
        gone = max(0, escalated - (rows - leaving))
        self._rows -= leaving
        self._escalated -= gone
        if leaving < rows:
            self._late.appendleft((rows - leaving, escalated - gone))
