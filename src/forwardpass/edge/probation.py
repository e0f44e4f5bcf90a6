"""A new version while it is watched: the one before stands behind it, and what it gets wrong is counted.

    the new version ─► answers ──────────────────────────────────────► its answer
           └─► fails, or refuses the rows ─► the one before ─► answers ─► that answer: the new one erred
                                                    └─► refuses too ─► refused: the rows' fault, nobody's error

The one rule for HTTP and for all other inputs; how a version is asked is handed in. Knows no limits: what is
counted is judged by ``watch``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from forwardpass.edge.rates import MOST, NOT_COUNTED, REFUSED, SECOND_TRY, quantile
from forwardpass.edge.watch import Health
from forwardpass.server.served import ServedModel
from forwardpass.types import Outcome

T = TypeVar("T")
Ask = Callable[[ServedModel], Awaitable[tuple[Outcome, T]]]  # how the rows fared with a version, and the answer

_TIMED = frozenset((Outcome.OK, Outcome.TIMED_OUT))


class Asking(Protocol):
    """Puts rows to a version, or to another where it fails: which one it was at last, and the answer."""

    async def __call__(self, served: ServedModel, ask: Ask[T]) -> tuple[ServedModel, T]: ...


async def ask_alone(served: ServedModel, ask: Ask[T]) -> tuple[ServedModel, T]:
    """The ``Asking`` of a version that no other stands behind."""
    return served, (await ask(served))[1]


@dataclass(frozen=True, slots=True)
class _Ended:
    seconds: float
    outcome: Outcome


class Probation:
    """``main`` is the version that is judged; ``before`` maps versions to those that they took the place of.

    ``clock`` gives seconds. Of the predictions, the last ``MOST`` are kept.
    """

    def __init__(
        self, main: ServedModel, before: Mapping[ServedModel, ServedModel], clock: Callable[[], float]
    ) -> None:
        self._main = main
        self._before = before
        self._clock = clock
        self._ended: deque[_Ended] = deque(maxlen=MOST)

    async def ask(self, served: ServedModel, ask: Ask[T]) -> tuple[ServedModel, T]:
        """An ``Asking``."""
        began = self._clock()
        outcome, answer = await ask(served)
        ended = _Ended(self._clock() - began, outcome)
        refused = outcome in REFUSED
        before = self._before.get(served)
        if before is not None and before.ready and outcome in SECOND_TRY:
            other, given = await ask(before)
            if other is Outcome.OK or not refused:
                self._count(served, ended)
                return before, given
        if not refused:
            self._count(served, ended)
        return served, answer

    def health(self, crashes: int) -> Health:
        """Of the version that is judged, so far. What timed out took its time as well."""
        errors = sum(item.outcome is not Outcome.OK for item in self._ended)
        times = sorted(item.seconds for item in self._ended if item.outcome in _TIMED)
        return Health(len(self._ended), errors, crashes, quantile(times, 0.99))

    def _count(self, served: ServedModel, ended: _Ended) -> None:
        if served is self._main and ended.outcome not in NOT_COUNTED:
            self._ended.append(ended)
