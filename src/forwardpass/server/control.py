"""The control plane: loads models into workers, unloads them, and says what there is.

Looks only under the paths the server was started with. Loading a newer state of a model starts it
beside the old one, switches when it is ready, then lets the old one finish: nothing is refused in
between.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from forwardpass.config import Settings
from forwardpass.engine.messages import FailedHead, ReadyHead
from forwardpass.engine.replicas import Replicas
from forwardpass.engine.starter import Starter
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidModel, NotFound, NotReady, nearest
from forwardpass.registry import ModelFiles, ModelLocation, locate_models, read_model
from forwardpass.scheduler import Scheduler
from forwardpass.server.composed import Composer, Composition
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.plan import plan_model
from forwardpass.server.served import ServedModel, State

log = logging.getLogger(__name__)


class Control:
    """Starts and stops models. ``on_change`` is called when one appears, is ready, or goes.

    ``composer`` puts models together that have no artifact; without one they are refused.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        nursery: Starter,
        settings: Settings,
        paths: Sequence[Path],
        fronts: Fronts,
        composer: Composer | None = None,
    ) -> None:
        self.fronts = fronts
        self.on_change: Callable[[], None] = lambda: None
        self._dataplane = dataplane
        self._nursery = nursery
        self._settings = settings
        self._paths = paths
        self._composer = composer

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
            self.begin(location)

    def require_allowed(self) -> None:
        """Raises ``InvalidInput`` where callers may not load and unload models."""
        host, asked = self._settings.host, self._settings.model_control
        loopback = host in ("localhost", "::1") or host.startswith("127.")
        if not (loopback if asked is None else asked):
            raise InvalidInput(
                "loading and unloading over the API is off, because the server does not listen on loopback alone; "
                "start it with --model-control to allow it"
            )

    async def load(self, name: str, parameters: Iterable[str] = ()) -> None:
        """Load a model as it lies on disk now; returns when it is ready.

        Raises ``NotFound``, ``InvalidInput`` for any parameter (none is offered), or ``InvalidModel``
        where it cannot be loaded (an older one serves on).
        """
        if given := ", ".join(sorted(map(str, parameters))):
            raise InvalidInput(f"load parameters ({given}) are not offered; change the model's folder and load again")
        locations = [location for location in self.locations() if location.name == name]
        if not locations:
            names = {location.name for location in self.locations()}
            raise NotFound(f"there is no model {name!r} in the repository.{nearest(name, names)}")
        for location in locations:
            await self._replace(location)
        await self.fronts.settle()
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

    async def renew(self) -> None:
        """Load everything again beside what runs, because a front was started that has no workers."""
        for served in self._dataplane.all():
            if served.composed is not None or served not in self._dataplane.all():  # unloaded or replaced meanwhile
                continue
            with suppress(InvalidModel):  # logged; the old one serves on
                await self._replace(served.location)
        await self.fronts.settle()

    def begin(self, location: ModelLocation) -> ServedModel:
        """Load a version whose name means it at once; it answers when it is ready."""
        served = self._launch(location)
        self._publish(served)
        return served

    def _publish(self, served: ServedModel) -> None:
        self._dataplane.publish(served)
        self.fronts.publish(served)
        self.on_change()

    async def _replace(self, location: ModelLocation) -> None:
        old = self._dataplane.models.get(location.name, {}).get(location.version)
        beside = old is not None and old.ready
        new = self._launch(location) if beside else self.begin(location)
        try:
            await _loaded(new)
        except InvalidModel:
            stale = new if beside else old
            if stale is not None:
                await self._end(stale)
            raise
        if beside:
            self._publish(new)
        if old is not None:
            await self._end(old)

    # A version that is tried before it answers for its name

    async def try_out(self, location: ModelLocation, beside: Mapping[str, ServedModel] | None = None) -> ServedModel:
        """A version loaded beside what serves, under no name yet; ``DataPlane.infer`` answers for it.

        ``beside`` are others that are tried with it: a cascade asks them in place of those that serve under their
        names. End it with ``adopt`` or ``discard``. Raises ``InvalidModel`` where it cannot be loaded; nothing is left
        of it.
        """
        tried = self._launch(location, beside)
        try:
            await _loaded(tried)
        except BaseException:
            await self._end(tried)
            raise
        return tried

    async def adopt(self, tried: ServedModel, keep: bool = False) -> list[ServedModel]:
        """Its name means this version alone from now on; the others finish and end.

        With ``keep`` they live on, under no name: returned, to be adopted again or discarded.
        """
        others = [served for served in self._dataplane.versions(tried.name) if served is not tried]
        for served in others:
            self._dataplane.withdraw(served)
        self._publish(tried)
        if not keep:
            await asyncio.gather(*(self._end(served) for served in others))
        return others if keep else []

    async def discard(self, tried: ServedModel) -> None:
        """End a version that was tried, or that another was adopted in place of."""
        await self._end(tried)

    def _launch(self, location: ModelLocation, beside: Mapping[str, ServedModel] | None = None) -> ServedModel:
        """A version whose workers are on their way; a folder that cannot be read fails at once."""
        served = ServedModel(location)
        served.share = self.fronts.admit(served)
        try:
            files = read_model(location)
        except ForwardpassError as error:
            self._failed(served, FailedHead(type(error).__name__, error.message))
            return served
        if files.config.composed:
            self._compose(served, files, beside or {})
        else:
            self._start_workers(served, files)
        return served

    def _start_workers(self, served: ServedModel, files: ModelFiles) -> None:
        served.plan = plan = plan_model(files.config, self._settings, files.artifact.stat().st_size)
        served.limits = files.config.limits
        served.replicas = Replicas(
            self._nursery,
            served.location,
            plan.replicas,
            plan.threads,
            functools.partial(self._ready, served),
            functools.partial(self._failed, served),
            self.fronts.count,
            functools.partial(self.fronts.attach, served),
        )
        served.replicas.start()

    def _compose(self, served: ServedModel, files: ModelFiles, tried: Mapping[str, ServedModel]) -> None:
        """Start what answers for a model without an artifact."""
        served.limits = files.config.limits
        opened = functools.partial(self._opened, served)
        waits, answers = functools.partial(self._waits, served), functools.partial(self._answers, served)
        try:
            if self._composer is None:
                raise InvalidModel("it has no artifact but is made of other models, which are not offered here")
            composition = Composition(served, files, self._dataplane, opened, waits, answers, tried)
            served.replicas = served.composed = self._composer(composition)
        except ForwardpassError as error:
            self._failed(served, FailedHead(type(error).__name__, error.message))
        else:
            served.composed.start()

    def _opened(self, served: ServedModel, ready: ReadyHead, joined: bool) -> Scheduler:
        return self._ready(served, ready, joined=joined)

    def _waits(self, served: ServedModel, reason: str, away: bool) -> None:
        """It cannot answer now, and may again."""
        if served.state is State.UNLOADING or served.reason == reason:
            return
        log.warning("%s: %s", served.name, reason)
        served.state, served.reason, served.away = State.UNAVAILABLE, reason, away
        self.on_change()

    def _answers(self, served: ServedModel) -> None:
        if served.scheduler is not None and served.state is State.UNAVAILABLE:
            served.state, served.reason = State.READY, ""
            self.on_change()

    def _ready(self, served: ServedModel, ready: ReadyHead, *, joined: bool = True) -> Scheduler:
        scheduler = self._dataplane.open(served, ready, joined=joined)
        self.on_change()
        return scheduler

    def _failed(self, served: ServedModel, failed: FailedHead) -> None:
        log.error("%s: %s", served.name, failed.message)
        served.state, served.reason = State.UNAVAILABLE, failed.message
        if served.scheduler is not None:
            served.scheduler.stop(NotReady(f"model {served.name!r} is not ready: {failed.message}"))
        self.on_change()

    async def _stop(self, served: ServedModel) -> None:
        self._dataplane.withdraw(served)
        self.on_change()
        await self._end(served)

    async def _end(self, served: ServedModel) -> None:
        """Let requests already queued finish, within the drain timeout; then end the workers."""
        timeout = self._settings.drain_timeout
        await asyncio.gather(served.finish(timeout), self.fronts.retire(served, timeout))
        self.fronts.release(served)
        if served.replicas is not None:
            await served.replicas.stop()
        served.state, served.reason = State.UNAVAILABLE, "unloaded"
        gc.collect()  # its parts know each other, and the collector is told to look seldom


async def _loaded(served: ServedModel) -> None:
    """Returns when it is ready. Raises ``InvalidModel`` saying why it will not be."""
    while served.state is State.LOADING:
        await asyncio.sleep(0.005)
    if not served.ready:
        raise InvalidModel(f"model {served.name!r} cannot be loaded: {served.reason}")
