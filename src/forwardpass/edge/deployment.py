"""What the agent runs: the models of one slot, and the way to those of another without a gap.

    try the new models beside the old ─► golden rows ─► the new ones answer ─► watch ─► let the old ones go
                                                              └──── not well ────► the old ones answer again

While the new version is watched, the old one stands behind it (``probation``). Knows no download and no
file that says which slot is active: whoever asks for a switch keeps that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from forwardpass.config import ModelConfig
from forwardpass.edge.bundle import read_goldens
from forwardpass.edge.golden import differences
from forwardpass.edge.predictor import answer
from forwardpass.edge.probation import Ask, Probation, T, ask_alone
from forwardpass.edge.rates import GOLDEN, Rates
from forwardpass.edge.settings import WatchSettings
from forwardpass.edge.slots import Slot
from forwardpass.edge.watch import Limits, Verdict, Watch
from forwardpass.errors import ForwardpassError, InvalidModel, InvalidSettings, TimedOut
from forwardpass.registry import ModelLocation, locate_models, read_model
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel, State

log = logging.getLogger(__name__)

LOOK = 0.01  # seconds between two looks at what is loading
WATCH = 0.1  # and at what is watched
MOST_DIFFERENCES = 3  # that a message names

Check = Callable[[ServedModel, ModelConfig], None]


@dataclass(frozen=True)
class Deployed:
    """The models of a slot as they are served, by name; ``slot.manifest.model`` is the one that answers."""

    slot: Slot
    models: dict[str, ServedModel]
    config: ModelConfig  # of the one that answers

    @property
    def main(self) -> ServedModel:
        return self.models[self.slot.manifest.model]

    @property
    def restarts(self) -> int:
        """Workers that were started again since load."""
        return sum(served.replicas.restarts for served in self.models.values() if served.replicas is not None)


class Deployment:
    """``on_change`` is called when other models answer; ``check`` raises where the agent cannot use them."""

    def __init__(
        self,
        control: Control,
        dataplane: DataPlane,
        rates: Rates,
        settings: WatchSettings,
        clock: Callable[[], float],
        check: Check = lambda served, config: None,
        on_change: Callable[[Deployed], None] = lambda deployed: None,
    ) -> None:
        self.running: Deployed | None = None
        self.watch: Watch | None = None  # while a new version is watched
        self._control = control
        self._dataplane = dataplane
        self._rates = rates
        self._settings = settings
        self._clock = clock
        self._check = check
        self._on_change = on_change
        self._probation: Probation | None = None  # of the version that is watched
        self._switching = asyncio.Lock()

    async def ask(self, served: ServedModel, ask: Ask[T]) -> tuple[ServedModel, T]:
        """Put rows to a version, or to the one before it where it is watched and fails; which one, and its answer."""
        return await (ask_alone if self._probation is None else self._probation.ask)(served, ask)

    async def start(self, slot: Slot, *, golden: bool = False) -> None:
        """Load a slot's models, where none runs; with ``golden`` only once its golden rows are answered right.

        Returns when the model can answer, or waits only for others elsewhere. Raises ``InvalidModel``, ``TimedOut``.
        """
        if golden:
            await self._adopt(await self._try(slot))
            return
        locations = _locate(slot)
        models = {name: self._control.begin(location) for name, location in locations.items()}
        deployed = Deployed(slot, models, _config(slot, locations))
        await self._loaded(deployed)
        if deployed.main.ready:
            self._check(deployed.main, deployed.config)
        self._run(deployed)

    async def switch(self, slot: Slot) -> str:
        """Have a slot's models answer instead of those that run, if they are well.

        Returns "" once they are kept, else why not; then the old ones answer as before. Nobody is
        refused meanwhile. Raises ``InvalidSettings`` where this device lacks what they need.
        """
        async with self._switching:
            old = self.running
            if old is None:
                raise InvalidModel("nothing runs that could be switched from")
            try:
                new = await self._try(slot)
            except InvalidSettings:  # no fault of theirs
                raise
            except ForwardpassError as error:
                return error.message
            log.info("switching to %s", slot)
            before = self._rates.health(old.main.name, old.main.version)
            watch = Watch(before, self._limits(new.main), self._clock)
            places = {served: old.models[name] for name, served in new.models.items() if name in old.models}
            # two of one number cannot be told from each other by their records
            self._rates.behind = {
                (s.name, s.version): place for s, place in places.items() if s.version != place.version
            }
            self._probation = Probation(new.main, places, self._clock)
            try:
                await self._adopt(new, old)
                why = await self._watched(new, watch, self._probation)
                if why:
                    await self._adopt(old, new)
                    await self._abandon(new)
                else:
                    self._dataplane.recorder.flush()
                    self._rates.behind = {}
                    await self._discard(old)
            except asyncio.CancelledError:  # the agent stops
                await self._discard(new if self.running is old else old)
                raise
            finally:
                self._probation = None
            return why

    # Trying

    async def _try(self, slot: Slot) -> Deployed:
        """A slot's models beside what runs, all golden rows answered. Raises, and then nothing is left of them."""
        tried: dict[str, ServedModel] = {}
        try:
            async with asyncio.timeout(slot.manifest.limits.load_seconds):
                locations = _locate(slot)
                await self._load_beside(locations, tried)
            main = tried.get(slot.manifest.model)
            config = _config(slot, locations)
            if main is not None:
                self._check(main, config)
            await self._check_golden(slot, tried)
        except TimeoutError:
            await self._discard_all(tried)
            raise TimedOut(f"{slot}: was not loaded within {slot.manifest.limits.load_seconds:g} s") from None
        except BaseException:
            await self._discard_all(tried)
            raise
        late = {name: self._control.begin(place) for name, place in locations.items() if name not in tried}
        return Deployed(slot, {**tried, **late}, config)

    async def _load_beside(self, locations: dict[str, ModelLocation], tried: dict[str, ServedModel]) -> None:
        """What has workers first, then what asks it; a model elsewhere may be out of reach just now."""
        for name, location in sorted(locations.items(), key=lambda item: _order(item[1])):
            try:
                tried[name] = await self._control.try_out(location, beside=tried)
            except InvalidModel:
                if read_model(location).config.remote is None:
                    raise
                log.warning("%s cannot be reached now; it is asked when it can be", name)

    async def _check_golden(self, slot: Slot, models: dict[str, ServedModel]) -> None:
        """Raises ``InvalidModel`` where a golden row is answered otherwise than it was."""
        seconds = slot.manifest.limits.golden_seconds
        for golden in read_goldens(slot.folder, slot.manifest):
            served = models.get(golden.model)
            if served is None or not served.ready:
                continue
            try:
                async with asyncio.timeout(seconds):
                    answers = [(await answer(self._dataplane, served, [row], GOLDEN))[0] for row in golden.instances]
            except TimeoutError:
                raise InvalidModel(f"{slot}: the golden rows were not answered within {seconds:g} s") from None
            except ForwardpassError as error:
                raise InvalidModel(f"{slot}: a golden row of {golden.model} failed: {error.message}") from None
            if found := differences(golden, answers):
                shown = "; ".join(found[:MOST_DIFFERENCES])
                raise InvalidModel(f"{slot}: {golden.model} answers golden rows otherwise here: {shown}")

    # Switching

    async def _adopt(self, new: Deployed, old: Deployed | None = None) -> None:
        """From here on these answer; all in one turn of the loop."""
        for served in new.models.values():
            await self._control.adopt(served, keep=True)
        for name, served in old.models.items() if old is not None else ():
            if name not in new.models:
                self._dataplane.withdraw(served)
        self._run(new)

    def _run(self, deployed: Deployed) -> None:
        self.running = deployed
        self._on_change(deployed)

    async def _watched(self, new: Deployed, watch: Watch, probation: Probation) -> str:
        """Returns once it is known whether the new ones are well: "", or what is wrong."""
        self.watch = watch
        try:
            while True:
                crashes = new.restarts + any(_broken(served) for served in new.models.values())
                verdict = watch.verdict(probation.health(crashes))
                if verdict is not Verdict.UNDECIDED:
                    return watch.reason
                await asyncio.sleep(WATCH)
        finally:
            self.watch = None

    def _limits(self, main: ServedModel) -> Limits:
        settings = self._settings
        p99 = main.limits.timeout if settings.p99 is None else settings.p99
        return Limits(settings.seconds, settings.predictions, settings.crashes, settings.more_errors, p99)

    async def _abandon(self, new: Deployed) -> None:
        """What they still run fails at once, and is answered by the old ones."""
        for served in new.models.values():
            await served.finish(0.0)
        await self._discard(new)

    async def _discard(self, deployed: Deployed) -> None:
        await self._discard_all(deployed.models)

    async def _discard_all(self, models: dict[str, ServedModel]) -> None:
        await asyncio.gather(*(self._control.discard(served) for served in models.values()))

    # Loading

    async def _loaded(self, deployed: Deployed) -> None:
        main, limits = deployed.main, deployed.slot.manifest.limits
        end = self._clock() + limits.load_seconds
        while not main.ready and any(served.state is State.LOADING for served in deployed.models.values()):
            if self._clock() > end:
                break
            await asyncio.sleep(LOOK)
        for served in deployed.models.values():
            if served.composed is None and served.state is State.UNAVAILABLE:  # here, and cannot be loaded
                raise InvalidModel(f"{deployed.slot}: {served.name} cannot be loaded: {served.reason}")
        if not main.ready and main.composed is None:
            raise InvalidModel(f"{deployed.slot}: cannot be loaded: {main.reason}")


def _locate(slot: Slot) -> dict[str, ModelLocation]:
    """The models of a slot by name. Raises ``InvalidModel`` where its main one is not there."""
    found = {location.name: location for location in locate_models(slot.models)}
    if slot.manifest.model not in found:
        raise InvalidModel(f"{slot}: there is no model {slot.manifest.model!r} in it")
    return found


def _config(slot: Slot, locations: dict[str, ModelLocation]) -> ModelConfig:
    return read_model(locations[slot.manifest.model]).config


def _order(location: ModelLocation) -> int:
    config = read_model(location).config
    return 2 if config.cascade else int(config.remote is not None)


def _broken(served: ServedModel) -> bool:
    """Whether its workers have been given up."""
    return served.composed is None and served.state is State.UNAVAILABLE
