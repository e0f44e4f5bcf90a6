"""Whether a new version is well: a decision over numbers from before and after it was switched to.

Plain: what is counted is handed in, and so is the clock. Knows no processes, slots or updates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

FEW = 2  # errors that are no accident


class Verdict(StrEnum):
    KEEP = "keep"
    REVERT = "revert"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Health:
    """What a version did in a while: predictions that ended, those with an error, deaths of its workers.

    ``p99`` are the seconds that 99 of 100 predictions took at most, also until they timed out; None where there
    were none.
    """

    predictions: int = 0
    errors: int = 0
    crashes: int = 0
    p99: float | None = None

    @property
    def error_share(self) -> float:
        return self.errors / self.predictions if self.predictions else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a version is taken back.

    ``crashes`` and ``more_errors`` (a share above that of before) are the most that is borne, ``p99``
    the most seconds. Errors and times are judged from ``predictions`` on, and at the end in any case (errors
    from ``FEW`` on): a version that fails or is slow may not be asked so often. All is over after ``seconds``.
    """

    seconds: float
    predictions: int
    crashes: int
    more_errors: float
    p99: float


class Watch:
    """Over one version, since it was switched to: ``before`` is how its predecessor did."""

    def __init__(self, before: Health, limits: Limits, clock: Callable[[], float]) -> None:
        self._before = before
        self._limits = limits
        self._clock = clock
        self._since = clock()
        self.reason = ""  # why it is to be taken back

    @property
    def rest(self) -> float:
        """Seconds until it is kept, if nothing happens."""
        return max(0.0, self._since + self._limits.seconds - self._clock())

    def verdict(self, now: Health) -> Verdict:
        """By what it has done since then."""
        self.reason = self._wrong(now)
        if self.reason:
            return Verdict.REVERT
        return Verdict.UNDECIDED if self.rest else Verdict.KEEP

    def _wrong(self, now: Health) -> str:
        limits = self._limits
        if now.crashes > limits.crashes:
            times = "once" if now.crashes == 1 else f"{now.crashes} times"
            return f"its worker died {times} ({limits.crashes} allowed)"
        if now.predictions < limits.predictions and self.rest:
            return ""
        allowed = self._before.error_share + limits.more_errors
        if now.error_share > allowed and (now.predictions >= limits.predictions or now.errors >= FEW):
            return f"{now.error_share:.1%} of {now.predictions} predictions failed ({allowed:.1%} allowed)"
        if now.p99 is not None and now.p99 > limits.p99:
            return f"99 of 100 predictions took up to {now.p99 * 1e3:.1f} ms ({limits.p99 * 1e3:.1f} ms allowed)"
        return ""
