"""The data plane: which model answers, whether it may be asked now, and the way to its queue.

Every door goes through it, so all protocols share admission, deadlines and records. Knows no
protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from forwardpass.engine.messages import ReadyHead
from forwardpass.errors import ForwardpassError, NotFound, NotReady, nearest
from forwardpass.scheduler import Request, Scheduler
from forwardpass.scheduler.lengths import ragged_inputs
from forwardpass.scheduler.parts import submit_in_parts
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel, State, clock, newest

_READY = State.READY


class DataPlane:
    """All models that are served, by name and version."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.models: dict[str, dict[str, ServedModel]] = {}
        self.draining = False
        self.answered: Callable[[], None] = lambda: None  # a door's: the answers of a batch can go out

    def model(self, name: str, version: str | None = None) -> ServedModel:
        """A version of a model, the newest ready one where none is named. Raises ``NotFound``."""
        versions = self.models.get(name)
        if not versions:
            raise NotFound(f"there is no model {name!r}.{nearest(name, self.models)}")
        if version is None:
            return newest(list(versions.values()))
        if version not in versions:
            raise NotFound(f"model {name!r} has no version {version!r}.{nearest(version, versions)}")
        return versions[version]

    def open(self, served: ServedModel, ready: ReadyHead, *, joined: bool = True) -> Scheduler:
        """The first worker of a version is ready: from now on it can answer.

        Without ``joined``, every request is a batch of its own also where the model is batched.
        """
        served.signature, served.info = ready.signature, ready.info
        served.scheduler = Scheduler(
            served.limits,
            joined and ready.signature.batched,
            clock,
            asyncio.get_running_loop(),
            partial(self.recorder, served),
            self.answered,
            ragged_inputs(ready.signature),
            served.share,
        )
        served.state, served.reason = State.READY, ""
        return served.scheduler

    def publish(self, served: ServedModel) -> None:
        """Its name and version mean this one from now on."""
        self.models.setdefault(served.name, {})[served.version] = served

    def publishes(self, served: ServedModel) -> bool:
        """Whether its name and version mean this one."""
        return self.models.get(served.name, {}).get(served.version) is served

    def withdraw(self, served: ServedModel) -> None:
        """Its name and version mean nothing any more, unless they already mean another."""
        versions = self.models.get(served.name, {})
        if versions.get(served.version) is served:
            del versions[served.version]
            if not versions:
                del self.models[served.name]

    def infer(self, served: ServedModel, request: Request) -> None:
        """Queue a request; it is answered later. Raises what refuses it, and records that."""
        try:
            scheduler = served.scheduler
            if scheduler is None or served.state is not _READY:
                scheduler = served.require_ready()
            if request.rows > 1 and request.rows > scheduler.room_for(request):
                submit_in_parts(scheduler, request)
            else:
                scheduler.submit(request)
        except ForwardpassError as error:
            self.refused(served, request, error)
            raise

    def refused(self, served: ServedModel, request: Request, error: ForwardpassError) -> None:
        """Record a request that was never queued."""
        request.done = True
        request.outcome = error.outcome
        self.recorder(served, (request,))

    def all(self) -> list[ServedModel]:
        """Every version of every model, by name and number."""
        return [served for name in sorted(self.models) for served in self.versions(name)]

    def versions(self, name: str) -> list[ServedModel]:
        return sorted(self.models.get(name, {}).values(), key=lambda served: int(served.version))

    def require_ready(self) -> None:
        """Raises ``NotReady`` naming what is missing, unless this server does all it can.

        A model that waits for servers elsewhere is missed only where no other can answer: whoever takes this server out
        for it would take out all the others too, and with them every model that is well.
        """
        if self.draining:
            raise NotReady("the server is stopping")
        missing = [served for served in self.all() if not served.ready]
        if any(not served.away for served in missing) or len(missing) == len(self.all()) > 0:
            reasons = [f"{served.name} ({served.reason})" for served in missing]
            raise NotReady(f"not ready: {'; '.join(reasons)}")
