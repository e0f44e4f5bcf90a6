"""Counters and histograms from records, for Prometheus and for the statistics of the protocol.

Plain lists and numbers while records come in (about half a microsecond each); turned into the
exposition format only when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from forwardpass.types import Outcome, Record

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_OK = Outcome.OK


@dataclass(slots=True)
class Histogram:
    """Counts by upper bound, the last without one; and the sum."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> Histogram:
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: Histogram) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    @property
    def count(self) -> int:
        return sum(self.counts)


def _seconds() -> Histogram:
    return Histogram.of(SECONDS)


@dataclass(slots=True)
class ModelStats:
    """What happened to one version's requests. Sums are seconds, over successful requests."""

    outcomes: dict[tuple[str, Outcome], int] = field(default_factory=Counter)  # by door
    total: Histogram = field(default_factory=_seconds)
    queue: Histogram = field(default_factory=_seconds)
    preprocess: Histogram = field(default_factory=_seconds)
    forward: Histogram = field(default_factory=_seconds)
    postprocess: Histogram = field(default_factory=_seconds)
    batch_rows: Histogram = field(default_factory=lambda: Histogram.of(ROWS))
    rows: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    compute: float = 0.0
    failed_seconds: float = 0.0
    last_at: float = 0.0
    batches: dict[int, int] = field(default_factory=Counter)  # batch size in rows -> how many

    def add(self, records: Sequence[Record]) -> None:
        """Records that ended together: one batch's, or a single one."""
        first = records[0]
        if first.batch_rows:
            self.preprocess.observe(first.preprocess)
            self.forward.observe(first.forward)
            self.postprocess.observe(first.postprocess)
            self.batch_rows.observe(first.batch_rows)
            self.batches[first.batch_rows] += 1
        self.last_at = first.at
        doors: dict[str, int] = {}
        total, queue = self.total, self.queue
        for record in records:
            self.bytes_in += record.bytes_in
            self.bytes_out += record.bytes_out
            if record.outcome is not _OK:
                self.outcomes[record.door, record.outcome] += 1
                self.failed_seconds += record.total
                continue
            doors[record.door] = doors.get(record.door, 0) + 1
            total.counts[bisect_left(SECONDS, record.total)] += 1
            total.sum += record.total
            queue.counts[bisect_left(SECONDS, record.queue)] += 1
            queue.sum += record.queue
            self.rows += record.rows
            self.compute += record.compute
        for door, count in doors.items():
            self.outcomes[door, _OK] += count

    def merge(self, other: ModelStats) -> None:
        """Add what another front saw of the same version."""
        for name in ("total", "queue", "preprocess", "forward", "postprocess", "batch_rows"):
            getattr(self, name).merge(getattr(other, name))
        for name in ("rows", "bytes_in", "bytes_out", "compute", "failed_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_at = max(self.last_at, other.last_at)
        self.outcomes = Counter(self.outcomes) + Counter(other.outcomes)
        self.batches = Counter(self.batches) + Counter(other.batches)

    def count(self, *, ok: bool) -> int:
        """Requests that succeeded, or that did not."""
        return sum(n for (_, outcome), n in self.outcomes.items() if (outcome is Outcome.OK) == ok)


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value at the time of a scrape: ``forwardpass_<name>`` with its labels. ``grows``: it is a count, from 0 on."""

    name: str
    help: str
    labels: dict[str, str]
    value: float
    grows: bool = False


class Metrics:
    """A sink of records. ``gauges`` is asked at every scrape for what is true then."""

    def __init__(self, gauges: Callable[[], Iterable[Gauge]] = lambda: ()) -> None:
        self.models: dict[tuple[str, str], ModelStats] = {}
        self.gauges = gauges

    def write(self, records: Sequence[Record]) -> None:
        if records:
            self.stats(records[0].model, records[0].version).add(records)

    def stats(self, model: str, version: str) -> ModelStats:
        stats = self.models.get((model, version))
        if stats is None:
            stats = self.models[model, version] = ModelStats()
        return stats

    def exposition(self) -> bytes:
        """Everything in the text format of Prometheus."""
        from forwardpass.monitoring.exposition import expose

        return expose(self)
