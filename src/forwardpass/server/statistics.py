"""What happened to requests, over all fronts: the statistics of the protocol, and metrics.

Each front counts its own; here they are asked and added up, whenever somebody wants to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from forwardpass.monitoring import Metrics, ModelStats
from forwardpass.monitoring.metrics import Gauge
from forwardpass.scheduler import Scheduler
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.fronts.messages import ModelReport
from forwardpass.server.served import ServedModel

Json = dict[str, Any]


class Statistics:
    """Asked by the doors. ``metrics`` is what this front counts."""

    def __init__(self, dataplane: DataPlane, metrics: Metrics, fronts: Fronts) -> None:
        self._dataplane = dataplane
        self._metrics = metrics
        self._fronts = fronts

    async def of(self, chosen: Iterable[ServedModel]) -> list[Json]:
        """Statistics of versions, in the words of the protocol."""
        reports = await self._reports()
        return [of_model(served, *self._of_all(served, reports)) for served in chosen]

    async def exposition(self) -> bytes:
        """Metrics in the text format of Prometheus."""
        reports = await self._reports()
        merged = Metrics(partial(self._gauges, reports))
        for (name, version), stats in self._metrics.models.items():
            merged.stats(name, version).merge(stats)
        for report in reports:
            merged.stats(report.name, report.version).merge(report.stats)
        return merged.exposition()

    async def _reports(self) -> list[ModelReport]:
        self._dataplane.recorder.flush()
        return await self._fronts.reports()

    def _of_all(self, served: ServedModel, reports: Sequence[ModelReport]) -> tuple[ModelStats, Queued]:
        """One version's counts and queue, those of the other fronts included."""
        stats = ModelStats()
        stats.merge(self._metrics.stats(served.name, served.version))
        queued = Queued(served.scheduler)
        for report in reports:
            if (report.name, report.version) == (served.name, served.version):
                stats.merge(report.stats)
                queued.add(report)
        return stats, queued

    def _gauges(self, reports: Sequence[ModelReport]) -> Iterator[Gauge]:
        for served in self._dataplane.all():
            labels = {"model": served.name, "version": served.version}
            yield Gauge("model_ready", "1 where the version can answer", labels, float(served.ready))
            if served.scheduler is None or served.replicas is None:
                continue
            _, queued = self._of_all(served, reports)
            yield Gauge("queue_rows", "Rows that wait", labels, queued.rows)
            yield Gauge("queue_bytes", "Bytes that wait", labels, queued.bytes)
            yield Gauge("replicas_ready", "Workers that can take batches", labels, served.replicas.ready)
            yield Gauge("worker_restarts", "Workers started again since load", labels, served.replicas.restarts)
            if served.composed is not None:
                yield from served.composed.gauges(labels)
            for reason, count in queued.reasons.items():
                yield Gauge("batches_by_reason", "Why batches left", {**labels, "reason": reason}, count)


class Queued:
    """What waits for one version now, and why its batches left."""

    def __init__(self, scheduler: Scheduler | None) -> None:
        self.rows = scheduler.queued_rows if scheduler else 0
        self.bytes = scheduler.queued_bytes if scheduler else 0
        reasons = scheduler.reasons if scheduler else {}
        self.reasons = Counter({str(reason): count for reason, count in reasons.items()})

    def add(self, report: ModelReport) -> None:
        self.rows += report.queued_rows
        self.bytes += report.queued_bytes
        self.reasons.update(report.reasons)


def of_model(served: ServedModel, stats: ModelStats, queued: Queued) -> Json:
    """Statistics of one version; durations are sums in nanoseconds."""
    good, bad = stats.count(ok=True), stats.count(ok=False)
    batches = sum(stats.batches.values())
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": round(stats.last_at * 1000),
        "inference_count": stats.rows,
        "execution_count": batches,
        "inference_stats": {
            "success": _duration(good, stats.total.sum),
            "fail": _duration(bad, stats.failed_seconds),
            "queue": _duration(good, stats.queue.sum),
            "compute_input": _duration(batches, stats.preprocess.sum),
            "compute_infer": _duration(batches, stats.forward.sum),
            "compute_output": _duration(batches, stats.postprocess.sum),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [{"batch_size": size, "count": count} for size, count in sorted(stats.batches.items())],
        "batch_reasons": dict(queued.reasons),
        "cost": {} if served.scheduler is None else _cost(served.scheduler),
        "queue": {"rows": queued.rows, "bytes": queued.bytes},
        "replicas": {
            "ready": served.replicas.ready if served.replicas else 0,
            "wanted": served.replicas.count if served.replicas else 0,
            "restarts": served.replicas.restarts if served.replicas else 0,
        },
        **({} if served.composed is None else {"composed": served.composed.statistics()}),
    }


def _cost(scheduler: Scheduler) -> Json:
    """What batches take, in seconds: the curve fitted, and the means that it is fitted to."""
    cost = scheduler.cost
    return {
        "start": cost.start,
        "per_row": cost.per_row,
        "per_padded": cost.per_padded,
        "ragged": bool(scheduler.ragged),
        "best_rows": scheduler.best_rows(),
        "curve": [
            {
                "rows": round(kind.rows, 1),
                "length": round(kind.length) if scheduler.ragged else None,
                "seconds": kind.seconds,
                "batches": kind.batches,
            }
            for kind in cost.costs()
        ],
    }


def _duration(count: int, seconds: float) -> Json:
    return {"count": count, "ns": round(seconds * 1e9)}
