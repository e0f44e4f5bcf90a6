"""What each front counted, added up: statistics of the protocol and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from forwardpass.config import Settings
from forwardpass.monitoring import Metrics, ModelStats
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Scheduler
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.fronts.messages import ModelReport
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel, State, clock
from forwardpass.server.statistics import Queued, Statistics, of_model
from forwardpass.types import Outcome, Record


class Others(Fronts):
    """Fronts that saw what they are said to have seen."""

    def __init__(self, *seen: ModelReport) -> None:
        super().__init__(Settings(fronts=1), lambda: (_ for _ in ()).throw(AssertionError), 0)
        self.seen = seen

    async def reports(self) -> list[ModelReport]:
        return list(self.seen)


def record(total: float, outcome: Outcome = Outcome.OK, rows: int = 1, at: float = 0.0) -> Record:
    return Record("", "mine", "1", "http", outcome, at, rows, 10, 20, total, 0.0, 0.0, total, 0.0, total, rows)


def counted(*records: Record) -> ModelStats:
    stats = ModelStats()
    for one in records:
        stats.add([one])
    return stats


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def model(name: str = "mine") -> ServedModel:
    served = ServedModel(ModelLocation(name, "1", Path(name)))
    served.state = State.READY
    served.scheduler = Scheduler(served.limits, True, clock, asyncio.get_running_loop())
    return served


def test_a_model_never_asked_has_statistics_of_nothing() -> None:
    async def main() -> None:
        stats = of_model(model(), ModelStats(), Queued(None))
        assert (stats["inference_count"], stats["execution_count"], stats["batch_stats"]) == (0, 0, [])
        assert all(item == {"count": 0, "ns": 0} for item in stats["inference_stats"].values())
        assert (stats["queue"], stats["batch_reasons"]) == ({"rows": 0, "bytes": 0}, {})

    run(main)


def test_statistics_of_all_fronts_are_one() -> None:
    async def main() -> None:
        metrics, dataplane, served = Metrics(), DataPlane(Recorder(())), model()
        dataplane.publish(served)
        metrics.write([record(0.5, at=5.0)])
        metrics.write([record(0.25, Outcome.TIMED_OUT)])
        others = Others(
            ModelReport("mine", "1", counted(record(1.0, rows=3, at=6.0), record(2.0, at=7.0)), {"idle": 2}, 4, 40),
            ModelReport("mine", "1", counted(record(4.0, Outcome.OVERLOADED)), {"idle": 1, "full": 5}, 1, 2),
            ModelReport("another", "1", counted(record(100.0)), {"idle": 100}, 100, 100),
            ModelReport("mine", "2", counted(record(100.0)), {"idle": 100}, 100, 100),
        )
        statistics = Statistics(dataplane, metrics, others)
        for _ in range(2):  # asking counts nothing
            (stats,) = await statistics.of([served])
            assert (stats["inference_count"], stats["last_inference"]) == (5, 7000)
            assert stats["inference_stats"]["success"] == {"count": 3, "ns": 3_500_000_000}
            assert stats["inference_stats"]["fail"] == {"count": 2, "ns": 4_250_000_000}
            assert stats["batch_reasons"] == {"idle": 3, "full": 5}
            assert stats["queue"] == {"rows": 5, "bytes": 42}
            assert [item for item in stats["batch_stats"] if item["batch_size"] == 3] == [{"batch_size": 3, "count": 1}]
            text = (await statistics.exposition()).decode()
            assert 'forwardpass_requests_total{door="http",model="mine",outcome="ok",version="1"} 3.0' in text
        assert metrics.models["mine", "1"].rows == 1, "what this front saw is left as it is"

    run(main)


def test_a_model_that_only_another_front_has_answered_for_is_in_the_metrics() -> None:
    async def main() -> None:
        others = Others(ModelReport("gone", "3", counted(record(1.0), record(1.0)), {}, 0, 0))
        text = (await Statistics(DataPlane(Recorder(())), Metrics(), others).exposition()).decode()
        (line,) = [line for line in text.splitlines() if line.startswith("forwardpass_requests_total{")]
        assert 'model="gone"' in line
        assert line.endswith(" 2.0")

    run(main)
