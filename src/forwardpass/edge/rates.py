"""How the agent does right now: predictions per second, errors and latencies of the last minute.

A sink of records. Keeps the latencies of the last minute, at most ``MOST``; above that rate they
are those of the most recent predictions. Knows no model and no door.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from forwardpass.edge.watch import Health
from forwardpass.server.served import ServedModel
from forwardpass.types import Outcome, Record

MINUTE = 60.0
MOST = 8192
GOLDEN = "golden"  # the door of rows that the agent asks about by itself
# not the version's doing: the caller left, or sent more than there is room for
NOT_COUNTED = frozenset((Outcome.CANCELLED, Outcome.OVERLOADED, Outcome.QUOTA_EXCEEDED))
REFUSED = frozenset((Outcome.INVALID_INPUT, Outcome.TOO_LARGE))  # whose doing it is, one version alone cannot say
# a request that ended so may still be answered by the version before; one that timed out has no time left
SECOND_TRY = REFUSED | {Outcome.BACKEND_FAILED, Outcome.INTERNAL, Outcome.NOT_READY, Outcome.OVERLOADED}
INSIDE = frozenset((GOLDEN, "cascade", "deferred"))  # doors of what the agent asks by itself


@dataclass(frozen=True, slots=True)
class _Ended:
    at: float
    model: str
    version: str
    rows: int
    seconds: float
    outcome: Outcome

    @property
    def failed(self) -> bool:
        return self.outcome is not Outcome.OK


@dataclass(frozen=True, slots=True)
class Minute:
    """The last minute: per second; times in seconds, None where nothing was answered."""

    predictions: float
    rows: float
    errors: float
    p50: float | None
    p99: float | None


class Rates:
    """A sink; ``clock`` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.predictions = 0  # since the start
        self.rows = 0
        self.errors = 0
        # versions by name and number, and what answers where they fail: then its answer counts, and theirs does not
        self.behind: Mapping[tuple[str, str], ServedModel] = {}
        self._clock = clock
        self._since = clock()
        self._ended: deque[_Ended] = deque(maxlen=MOST)

    def write(self, records: Sequence[Record]) -> None:
        now = self._clock()
        for record in records:
            if record.door in INSIDE:
                continue
            failed = record.outcome is not Outcome.OK
            if failed and self._tried_again(record):
                continue
            self.predictions += not failed
            self.rows += 0 if failed else record.rows
            self.errors += failed
            if record.rows and record.outcome not in NOT_COUNTED:  # no rows: a body that could not be read
                ended = _Ended(now, record.model, record.version, record.rows, record.total, record.outcome)
                self._ended.append(ended)

    def _tried_again(self, record: Record) -> bool:
        behind = self.behind.get((record.model, record.version))
        return behind is not None and behind.ready and record.outcome in SECOND_TRY

    def last_minute(self) -> Minute:
        ended = list(self._lately(self._clock() - MINUTE))
        good = [item for item in ended if not item.failed]
        span = self._span(ended)
        times = sorted(item.seconds for item in good)
        return Minute(
            len(good) / span,
            sum(item.rows for item in good) / span,
            (len(ended) - len(good)) / span,
            quantile(times, 0.5),
            quantile(times, 0.99),
        )

    def health(self, model: str, version: str) -> Health:
        """Errors of a version in the last minute. Rows that it refused are neither errors nor predictions here."""
        lately = self._lately(self._clock() - MINUTE)
        own = (item for item in lately if (item.model, item.version) == (model, version))
        ended = [item for item in own if item.outcome not in REFUSED]
        return Health(len(ended), sum(item.failed for item in ended))

    def _lately(self, since: float) -> Iterator[_Ended]:
        return (item for item in self._ended if item.at >= since)

    def _span(self, ended: Sequence[_Ended]) -> float:
        """The seconds that they are of: less than a minute just after the start, or where many came."""
        since = ended[0].at if len(ended) == MOST else self._since
        return max(1.0, min(MINUTE, self._clock() - since))


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The least value that this share of them does not exceed."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 100) * len(ordered) // 100) - 1))]
