"""One version of a model as the server holds it: its workers, its queue, its state."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from time import perf_counter

from forwardpass.config import Limits
from forwardpass.errors import NotReady
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Scheduler
from forwardpass.scheduler.share import QueueShare
from forwardpass.server.composed import Composed, Workers
from forwardpass.server.plan import ModelPlan
from forwardpass.types import InputType, ModelInfo, Signature

clock = perf_counter  # the one clock of arrivals, deadlines and stage times


class State(StrEnum):
    """Where a version is in its life, in the words of the repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class ServedModel:
    """A version and all that serves it. ``reason`` says why it is not ready; ``away``: servers elsewhere are."""

    def __init__(self, location: ModelLocation) -> None:
        self.name = location.name
        self.version = location.version
        self.location = location
        self.state = State.LOADING
        self.reason = "loading"
        self.away = False
        self.limits = Limits()
        self.signature = Signature((), (), False)
        self.info = ModelInfo()
        self.replicas: Workers | None = None
        self.composed: Composed | None = None  # the same, of a model without an artifact
        self.scheduler: Scheduler | None = None
        self.plan: ModelPlan | None = None
        self.key = 0  # of this load of it, over all fronts
        self.share: QueueShare | None = None  # of its queue's limits with those of the other fronts

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    def require_ready(self) -> Scheduler:
        """The queue. Raises ``NotReady`` saying why there is none to use."""
        if self.scheduler is None or self.state is not State.READY:
            raise NotReady(f"model {self.name!r} version {self.version} is not ready: {self.reason}")
        return self.scheduler

    async def finish(self, timeout: float) -> None:
        """Let requests already queued finish, within ``timeout`` seconds; refuse what is left and what comes."""
        self.state, self.reason = State.UNLOADING, "being unloaded"
        if self.scheduler is None:
            return
        end = clock() + timeout
        while self.scheduler.busy and clock() < end:
            await asyncio.sleep(0.005)
        self.scheduler.stop(NotReady(f"model {self.name!r} is being unloaded"))

    def only_input(self, *types: InputType) -> str | None:
        """The name of the one input of these types, or None where there is none or several."""
        names = [spec.name for spec in self.signature.inputs if spec.type in types]
        return names[0] if len(names) == 1 else None


def newest(versions: Sequence[ServedModel]) -> ServedModel:
    """The version that answers where none is named: the newest ready one, else the newest."""
    ordered = sorted(versions, key=lambda served: int(served.version))
    ready = [served for served in ordered if served.ready]
    return (ready or ordered)[-1]
