"""What a measurement found: counts, latencies, refusals, errors, and how it went second by second.

A ``Result`` adds up with others (several clients, several rounds). Knows no target and no sending.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from forwardpass.loadtest.histogram import Histogram

LATE = 0.2  # of the p99 latency: an open loop that sends later than this did not keep its rate
LATE_SECONDS = 0.002  # less than this is never held against it


@dataclass
class Second:
    """What ended within one second of the measurement; ``slowest`` is seconds."""

    ok: int = 0
    refused: int = 0
    errors: int = 0
    slowest: float = 0.0


@dataclass
class Result:
    """All facts of one measurement. Latencies are seconds; an open loop's count from the planned time.

    ``seconds`` is how long requests were sent, ``ok`` of them got a good answer, ``ok_in_time`` of
    those within ``seconds``. ``refused`` (429 and 503) and ``errors`` (everything else, by kind) are
    apart; ``left`` were given up on purpose. ``late`` is by how much the client itself sent later
    than planned, ``waited`` how many requests had to wait for a free connection.
    """

    door: str
    seconds: float
    connections: int
    planned_rate: float | None = None  # None: closed loop
    sent: int = 0
    ok_in_time: int = 0
    left: int = 0
    waited: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    first_error: str = ""
    latency: Histogram = field(default_factory=Histogram)
    refused: Histogram = field(default_factory=Histogram)
    retry_after: Histogram = field(default_factory=Histogram)  # of the refusals that say it
    late: Histogram = field(default_factory=Histogram)
    series: list[Second] = field(default_factory=list)

    @property
    def ok(self) -> int:
        return self.latency.count

    @property
    def failed(self) -> int:
        """Requests that got neither a good answer nor a stated refusal."""
        return sum(self.errors.values())

    @property
    def rate(self) -> float:
        """Good answers per second while requests were sent; slower ones than that count afterwards."""
        if self.ok_in_time:
            return self.ok_in_time / self.seconds
        return self.ok / (self.seconds + self.latency.max) if self.ok else 0.0

    @property
    def punctual(self) -> bool:
        """False where an open loop's client sent so late that its latencies measure the client."""
        return self.late.percentile(99) <= max(LATE_SECONDS, LATE * self.latency.percentile(99))

    def second(self, after: float) -> Second:
        """The second of the series that ``after`` (seconds since the start) lies in."""
        index = int(after)
        while len(self.series) <= index:
            self.series.append(Second())
        return self.series[index]

    def merge(self, other: Result) -> None:
        """Add a measurement that ran at the same time against the same door (another client's)."""
        for name in ("connections", "sent", "ok_in_time", "left", "waited", "bytes_sent", "bytes_received"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if self.planned_rate is not None and other.planned_rate is not None:
            self.planned_rate += other.planned_rate
        self.seconds = max(self.seconds, other.seconds)
        self.statuses.update(other.statuses)
        self.errors.update(other.errors)
        self.first_error = self.first_error or other.first_error
        for name in ("latency", "refused", "retry_after", "late"):
            getattr(self, name).merge(getattr(other, name))
        for index, theirs in enumerate(other.series):
            mine = self.second(index)
            mine.ok, mine.refused, mine.errors = (
                mine.ok + theirs.ok, mine.refused + theirs.refused, mine.errors + theirs.errors,
            )  # fmt: skip
            mine.slowest = max(mine.slowest, theirs.slowest)

    def summary(self) -> dict[str, Any]:
        """Plain facts for a program."""
        plain = ("door", "connections", "planned_rate", "seconds", "rate", "sent", "ok", "failed", "left", "waited")
        return {
            **{name: getattr(self, name) for name in plain},
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "errors": dict(self.errors),
            "first_error": self.first_error,
            "latency": self.latency.summary(),
            "refused": {**self.refused.summary(), "retry_after": self.retry_after.count},
            "late": self.late.summary(),
            "punctual": self.punctual,
            "series": [asdict(second) for second in self.series],
        }
