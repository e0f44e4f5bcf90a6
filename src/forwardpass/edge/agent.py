"""The agent: one process and its worker, that answer for one model on a device, with or without a network.

    inputs, HTTP ─► model ─► answer            never waits for anything else
                      └─► reactions ─► rules, outputs, outbox     behind the answer, in bounded queues

Put together here, with what runs beside (uploads, updates) handed in as services. Knows a service only by
how it is run, stopped and asked how it is.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from forwardpass.config import ModelConfig, Settings
from forwardpass.edge.deployment import Deployed, Deployment
from forwardpass.edge.door import Door
from forwardpass.edge.endpoints import Endpoints
from forwardpass.edge.home import Home
from forwardpass.edge.inputs.base import Input
from forwardpass.edge.message import message_of
from forwardpass.edge.outputs.actions import Actions, create_actions
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.predictor import Predictor, answers_of, confidence_of, instances_of, is_provisional, new_id
from forwardpass.edge.rates import Rates
from forwardpass.edge.reactions import Reactions
from forwardpass.edge.report import Report
from forwardpass.edge.settings import AgentSettings
from forwardpass.edge.slots import Slot
from forwardpass.edge.systemd import Notifier
from forwardpass.engine.starter import Starter
from forwardpass.errors import ForwardpassError, NotFound, NotReady
from forwardpass.monitoring import Metrics
from forwardpass.server.composed import Composer
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.fronts.fronts import Fronts
from forwardpass.server.http.exchange import Exchange
from forwardpass.server.loop import freeze
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel
from forwardpass.types import Columns

log = logging.getLogger(__name__)

FLUSH = 5.0  # seconds that reactions and outputs may take at the end


class Service(Protocol):
    """What runs beside the predictions, such as uploads. ``status`` has at least the ``name``."""

    async def run(self) -> None:
        """Until cancelled."""

    async def status(self) -> dict[str, Any]:
        """With ``last_contact`` (seconds since the epoch) where it talks to somebody."""
        ...

    async def close(self) -> None:
        """Keep what is to be kept; after this nothing more comes."""


class Agent:
    """Everything of one running agent. ``clock`` gives seconds that only grow."""

    def __init__(
        self,
        home: Home,
        settings: AgentSettings,
        starter: Starter,
        composer: Composer | None = None,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.home = home
        self.settings = settings
        self.inputs: list[Input] = []
        self.outputs: list[Output] = []
        self.services: list[Service] = []
        self.on_check: Callable[[], None] | None = None  # somebody asks to look for an update now
        self.rates = Rates(clock)
        self.metrics = Metrics()
        self.reactions = Reactions()
        self.dataplane = DataPlane(Recorder((self.rates, self.metrics)))
        served = Settings(fronts=1, replicas=1, drain_timeout=settings.drain_timeout, model_control=False)
        fronts = Fronts(served, _no_socket, 0)
        self.control = Control(self.dataplane, starter, served, (), fronts, composer)
        self.deployment = Deployment(
            self.control, self.dataplane, self.rates, settings.watch, clock, self._check, self._changed
        )
        self.predictor = Predictor(self.dataplane, "", self._note, self.deployment.fallback)
        report = Report(self)
        commands = {"/check": self.check_now}
        endpoints = Endpoints(self.dataplane, self.require_ready, report.status, report.metrics, commands)
        self.door = Door(self.dataplane, settings, endpoints, self)
        self.address = ""
        self._starter = starter
        self._notifier = notifier or Notifier()
        self._clock = clock
        self._since = clock()
        self._actions: Actions | None = None
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[Prediction]] = set()  # of inputs

    # Life

    async def run(
        self, slot: Slot, sockets: Sequence[socket.socket], *, golden: bool = False, on_ready: Callable[[], Any] = bool
    ) -> None:
        """Load the slot, answer until a signal says stop, then finish what is under way.

        ``on_ready`` is called once the model is there. Raises ``InvalidModel`` where it cannot be loaded.
        """
        loop = asyncio.get_running_loop()
        self._starter.listen(loop)
        self.dataplane.recorder.call_later = loop.call_later
        self.control.on_change = self.door.rebuild
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            for sock in sockets:
                await self.door.start(sock)
            if await self._start(slot, golden):
                on_ready()
                await self._stop.wait()
        finally:
            await self._finish()

    def stop(self) -> None:
        """Finish what is under way and end."""
        self._stop.set()

    def check_now(self) -> None:
        """Somebody wants updates to be looked for now. Raises ``NotFound`` where none are."""
        if self.on_check is None:
            raise NotFound("this agent looks for no updates; start it with --updates URL")
        self.on_check()

    def _hang_up(self) -> None:
        """The signal for the same."""
        with suppress(NotFound):
            self.check_now()

    async def _start(self, slot: Slot, golden: bool) -> bool:
        """Whether the model is there; false where a signal came first."""
        loading = asyncio.ensure_future(self.deployment.start(slot, golden=golden))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            await asyncio.wait({loading})
            return False
        loading.result()
        freeze()
        self.reactions.follow(self._act)
        for output in self.outputs:
            self.reactions.follow(_sender(output))
        self._begin(self.reactions.run())
        self._begin(self._sign_of_life())
        for service in self.services:
            self._begin(service.run())
        for item in self.inputs:
            self._begin(self._feed(item))
        self._notifier.ready(str(slot))
        return True

    def _begin(self, running: Any) -> None:
        task = asyncio.ensure_future(running)
        task.add_done_callback(_say_why)
        self._tasks.append(task)

    async def _feed(self, item: Input) -> None:
        await item.run(self._predict)
        if item.ends_agent:
            self.stop()

    async def _predict(self, rows: list[Any], source: str, id: str | None = None) -> Prediction:
        """What an input asks is answered also where the agent stops meanwhile."""
        task = asyncio.ensure_future(self.predictor.predict(rows, source, id))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _sign_of_life(self) -> None:
        beat = self._notifier.beat
        while beat is not None:
            self._notifier.alive()
            await asyncio.sleep(beat)

    async def _finish(self) -> None:
        """Not ready, nothing new, what is under way to its end, what is to be kept kept."""
        log.info("stopping: finishing what is under way")
        self._notifier.stopping()
        self.dataplane.draining = True
        following = self._tasks[:1]  # the reactions go on until all that was answered is told
        await self._end(self._tasks[1:])
        await self.door.stop(self.settings.drain_timeout)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self.settings.drain_timeout)
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):
                if following:
                    await self.reactions.flush()
        await self._end(following)
        await asyncio.gather(*(output.close(FLUSH) for output in self.all_outputs))
        await self.control.stop()
        self.dataplane.recorder.flush()
        for service in self.services:
            await service.close()
        self._starter.close()
        self.home.socket.unlink(missing_ok=True)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Models

    def _check(self, served: ServedModel, config: ModelConfig) -> None:
        """Raises where what the model's rules ask for cannot be done here."""
        create_actions(config.actions, served.signature, self.settings.mqtt, self.home.folder)

    def _changed(self, deployed: Deployed) -> None:
        self.predictor.model = deployed.slot.manifest.model
        before, self._actions = self._actions, None
        if before is not None:
            self._begin(before.close(FLUSH))
        self._notifier.status(str(deployed.slot))

    async def _act(self, prediction: Prediction) -> None:
        """The rules of the version that answers now; made when the first prediction is there, which it needs."""
        deployed = self.deployment.running
        if self._actions is None and deployed is not None and deployed.main.ready:
            config, signature = deployed.config, deployed.main.signature
            self._actions = create_actions(config.actions, signature, self.settings.mqtt, self.home.folder)
        if self._actions is not None:
            await self._actions.act(prediction)

    # Predictions that were answered

    def _note(self, prediction: Prediction) -> None:
        self.reactions.note(lambda: prediction)

    def answered(self, exchange: Exchange, served: ServedModel, outputs: Columns | None, error: str | None) -> None:
        """One over HTTP; what it was is looked at later."""
        if not self._followed or not exchange.columns:  # what could not be read has no rows to tell of
            return
        columns, at, seconds = exchange.columns, time.time(), time.perf_counter() - exchange.arrived
        name = exchange.id or new_id()

        def make() -> Prediction:
            given = outputs or {}
            answers = answers_of(given, served.signature.batched) if given else []
            return Prediction(
                name, "http", at, served.name, served.version, instances_of(columns, served), answers,
                is_provisional(given), confidence_of(given), error, seconds,
            )  # fmt: skip

        self.reactions.note(make)

    @property
    def _followed(self) -> bool:
        """Whether anybody wants to know of predictions; making them from tensors takes time."""
        deployed = self.deployment.running
        return bool(self.outputs or self.services or (deployed is not None and deployed.config.actions))

    def fallback(self, served: ServedModel) -> ServedModel | None:
        return self.deployment.fallback(served)

    # How it is

    def require_ready(self) -> None:
        """Raises ``NotReady`` while the model cannot answer; others that it asks may be out of reach."""
        if self.dataplane.draining:
            raise NotReady("the agent is stopping")
        if self.deployment.running is None:
            raise NotReady("loading")
        self.deployment.running.main.require_ready()

    @property
    def all_outputs(self) -> list[Output]:
        """Those of the settings, and those that the model's rules have."""
        return [*self.outputs, *(self._actions.outputs if self._actions is not None else ())]

    @property
    def uptime(self) -> float:
        """Seconds."""
        return self._clock() - self._since


def _sender(output: Output) -> Callable[[Prediction], Any]:
    async def send(prediction: Prediction) -> None:
        await output.send(message_of(prediction))

    return send


def _say_why(task: asyncio.Task[None]) -> None:
    """A part of the agent ended that should have gone on."""
    if not task.cancelled() and (error := task.exception()) is not None:
        message = error.message if isinstance(error, ForwardpassError) else repr(error)
        log.error("a part of the agent ended: %s", message, exc_info=error)


def _no_socket() -> socket.socket:
    raise NotReady("an agent has one front")
