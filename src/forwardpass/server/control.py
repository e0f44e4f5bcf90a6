"""The control plane: loads models into workers, unloads them, and says what there is.

Looks only under the paths the server was started with. Loading a newer state of a model starts it
beside the old one, switches when it is ready, then lets the old one finish: nothing is refused in
between.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from forwardpass.config import Settings, available_cores
from forwardpass.engine.messages import FailedHead, ReadyHead
from forwardpass.engine.nursery import Nursery
from forwardpass.engine.replicas import Replicas, stopped
from forwardpass.errors import ForwardpassError, InvalidModel, NotFound, NotReady, nearest
from forwardpass.registry import ModelLocation, locate_models, read_model
from forwardpass.scheduler import Scheduler
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel, State, clock

log = logging.getLogger(__name__)


class Control:
    """Starts and stops models. ``on_change`` is called when one appears, is ready, or goes."""

    def __init__(self, dataplane: DataPlane, nursery: Nursery, settings: Settings, paths: Sequence[Path]) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._dataplane = dataplane
        self._nursery = nursery
        self._settings = settings
        self._paths = paths

    def locations(self) -> list[ModelLocation]:
        """Every version that lies under the served paths now."""
        return [location for path in self._paths for location in locate_models(path)]

    async def start(self) -> None:
        """Begin to load everything there is. Raises ``InvalidModel`` where two models share a name."""
        found: dict[tuple[str, str], ModelLocation] = {}
        for location in self.locations():
            key = (location.name, location.version)
            if key in found:
                raise InvalidModel(f"two models are named {key[0]!r}: {found[key].path} and {location.path}")
            found[key] = location
        for location in found.values():
            self._begin(location)

    async def load(self, name: str) -> None:
        """Load a model as it lies on disk now; returns when it is ready.

        Raises ``NotFound``, or ``InvalidModel`` where it cannot be loaded (an older one serves on).
        """
        locations = [location for location in self.locations() if location.name == name]
        if not locations:
            names = {location.name for location in self.locations()}
            raise NotFound(f"there is no model {name!r} in the repository.{nearest(name, names)}")
        for location in locations:
            await self._replace(location)
        kept = {location.version for location in locations}
        for served in self._dataplane.versions(name):
            if served.version not in kept:
                await self._stop(served)

    async def unload(self, name: str) -> None:
        """Stop all versions of a model. What runs is finished. Raises ``NotFound``."""
        self._dataplane.model(name)
        await asyncio.gather(*(self._stop(served) for served in self._dataplane.versions(name)))

    async def stop(self) -> None:
        """Stop everything: queues first, then workers."""
        await asyncio.gather(*(self._stop(served) for served in self._dataplane.all()))

    def _begin(self, location: ModelLocation) -> ServedModel:
        served = self._launch(location)
        self._dataplane.models.setdefault(location.name, {})[location.version] = served
        self.on_change()
        return served

    async def _replace(self, location: ModelLocation) -> None:
        old = self._dataplane.models.get(location.name, {}).get(location.version)
        beside = old is not None and old.ready
        new = self._launch(location) if beside else self._begin(location)
        while new.state is State.LOADING:
            await asyncio.sleep(0.005)
        if not new.ready:
            reason = new.reason
            stale = new if beside else old
            if stale is not None:
                await self._end(stale)
            raise InvalidModel(f"model {location.name!r} cannot be loaded: {reason}")
        self._dataplane.models[location.name][location.version] = new
        self.on_change()
        if old is not None:
            await self._end(old)

    def _launch(self, location: ModelLocation) -> ServedModel:
        """A version whose workers are on their way; a folder that cannot be read fails at once."""
        served = ServedModel(location)
        try:
            config = read_model(location).config
        except ForwardpassError as error:
            self._failed(served, FailedHead(type(error).__name__, error.message))
            return served
        count = config.replicas or self._settings.replicas
        cores = self._settings.cores or available_cores()
        served.limits = config.limits
        served.replicas = Replicas(
            self._nursery,
            location,
            count,
            config.threads or max(1, cores // count),
            functools.partial(self._ready, served),
            functools.partial(self._failed, served),
        )
        served.replicas.start()
        return served

    def _ready(self, served: ServedModel, ready: ReadyHead) -> Scheduler:
        observe = functools.partial(self._dataplane.recorder, served)
        loop = asyncio.get_running_loop()
        served.signature, served.info = ready.signature, ready.info
        served.scheduler = Scheduler(
            served.limits, ready.signature.batched, clock, loop, observe, self._dataplane.answered
        )
        served.state, served.reason = State.READY, ""
        self.on_change()
        return served.scheduler

    def _failed(self, served: ServedModel, failed: FailedHead) -> None:
        log.error("%s: %s", served.name, failed.message)
        served.state, served.reason = State.UNAVAILABLE, failed.message
        if served.scheduler is not None:
            served.scheduler.stop(NotReady(f"model {served.name!r} is not ready: {failed.message}"))
        self.on_change()

    async def _stop(self, served: ServedModel) -> None:
        versions = self._dataplane.models.get(served.name, {})
        if versions.get(served.version) is served:
            del versions[served.version]
            if not versions:
                del self._dataplane.models[served.name]
        self.on_change()
        await self._end(served)

    async def _end(self, served: ServedModel) -> None:
        """Let requests already queued finish, within the drain timeout; then end the workers."""
        served.state, served.reason = State.UNLOADING, "being unloaded"
        deadline = clock() + self._settings.drain_timeout
        while served.scheduler is not None and served.scheduler.busy and clock() < deadline:
            await asyncio.sleep(0.005)
        if served.scheduler is not None:
            served.scheduler.stop(stopped(served.name))
        if served.replicas is not None:
            await served.replicas.stop()
        served.state, served.reason = State.UNAVAILABLE, "unloaded"
