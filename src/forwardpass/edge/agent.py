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
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from forwardpass.config import ModelConfig, Settings
from forwardpass.edge.deployment import Deployed, Deployment
from forwardpass.edge.door import Door
from forwardpass.edge.endpoints import Endpoints
from forwardpass.edge.home import Home
from forwardpass.edge.inputs.base import Input
from forwardpass.edge.message import message_of
from forwardpass.edge.outputs.actions import FLUSH, Actions
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.parts import Part, Service, reason
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.predictor import Predictor
from forwardpass.edge.probation import Ask, T
from forwardpass.edge.rates import Rates
from forwardpass.edge.reactions import Reactions
from forwardpass.edge.recall import recall, size_of
from forwardpass.edge.report import Report
from forwardpass.edge.settings import AgentSettings
from forwardpass.edge.slots import Slot
from forwardpass.edge.systemd import Notifier
from forwardpass.engine.starter import Starter
from forwardpass.errors import BackendFailed, NotFound, NotReady
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
        self.on_models: Callable[[], None] = lambda: None  # a model is ready, also one elsewhere, or is not any more
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
        self.predictor = Predictor(self.dataplane, "", self._note, self.deployment.ask)
        report = Report(self)
        commands = {"/check": self.check_now}
        endpoints = Endpoints(self.dataplane, self.require_ready, report.status, report.metrics, commands)
        self.door = Door(self.dataplane, settings, endpoints, self)
        self.address = ""
        self._starter = starter
        self._notifier = notifier or Notifier()
        self._clock = clock
        self._since = clock()
        self._actions = Actions(settings.mqtt, home.folder)
        self._acting: Deployed | None = None  # whose actions those are
        self._stop = asyncio.Event()
        self._failed = ""  # why the agent cannot go on
        self._parts: dict[Input | Service, Part] = {}
        self._feeding: list[asyncio.Task[None]] = []  # inputs
        self._beside: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None

    # Life

    async def run(
        self, slot: Slot, sockets: Sequence[socket.socket], *, golden: bool = False, on_ready: Callable[[], Any] = bool
    ) -> None:
        """Load the slot, answer until a signal says stop, then finish what is under way.

        ``on_ready`` is called once the model is there. Raises ``InvalidModel`` where it cannot be loaded,
        ``BackendFailed`` where something ended that the agent is of no use without.
        """
        loop = asyncio.get_running_loop()
        self._starter.listen(loop)
        self.dataplane.recorder.call_later = loop.call_later
        self.control.on_change = self._models_changed
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
        if self._failed:
            raise BackendFailed(f"the agent cannot go on: {self._failed}; its log says where that comes from")

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
        self._following = self._begin(self.reactions.run())
        self._beside.append(self._begin(self._sign_of_life()))
        for service in self.services:
            self._parts[service] = part = Part(type(service).__name__, service.run)
            self._beside.append(asyncio.ensure_future(part.run()))
        for item in self.inputs:
            self._parts[item] = part = Part(item.name, partial(item.run, self.predictor.predict))
            self._feeding.append(asyncio.ensure_future(self._feed(item, part)))
        self._notifier.ready(str(slot))
        return True

    def _begin(self, running: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin what the agent is of no use without: where it ends unforeseen, so does the agent."""
        task = asyncio.ensure_future(running)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed = reason(error)
            log.error("the agent ends: %s", self._failed, exc_info=error)
            self.stop()

    async def _feed(self, item: Input, part: Part) -> None:
        await part.run()
        if item.ends_agent:
            self.stop()

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
        drain = self.settings.drain_timeout
        await asyncio.gather(_end(self._beside), self.door.stop(drain), self._stop_inputs(drain))
        if self._following is not None and not self._following.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):  # the reactions go on until all that was answered is told
                    await self.reactions.flush()
            await _end([self._following])
        await asyncio.gather(*(output.close(FLUSH) for output in self.outputs), self._actions.close())
        await self.control.stop()
        self.dataplane.recorder.flush()
        for service in self.services:
            await service.close()
        self._starter.close()
        self.home.socket.unlink(missing_ok=True)

    async def _stop_inputs(self, timeout: float) -> None:
        """What they have read is answered, as far as ``timeout`` seconds allow."""
        if self._feeding:
            for item in self.inputs:
                self._parts[item].stop()
                item.stop()
            await asyncio.wait(self._feeding, timeout=timeout)
        await _end(self._feeding)

    # Models

    def _models_changed(self) -> None:
        self.door.rebuild()
        self.on_models()

    def _check(self, served: ServedModel, config: ModelConfig) -> None:
        """Raises where what the model's rules ask for cannot be done here."""
        self._actions.check(config.actions, served.signature)

    def _changed(self, deployed: Deployed) -> None:
        self.predictor.model = deployed.slot.manifest.model
        self._notifier.status(str(deployed.slot))

    async def _act(self, prediction: Prediction) -> None:
        """By the rules of its version, which are begun when the first prediction is there, and the model with it."""
        deployed = self.deployment.running
        if deployed is not None and deployed is not self._acting and deployed.main.ready:
            self._actions.begin(deployed.main.version, deployed.config.actions, deployed.main.signature)
            self._acting = deployed
        await self._actions.act(prediction)

    # Predictions that were answered

    def _note(self, prediction: Prediction) -> None:
        self.reactions.note(lambda: prediction, size_of(prediction.instances) + size_of(prediction.answers))

    def answered(self, exchange: Exchange, served: ServedModel, outputs: Columns | None, error: str | None) -> None:
        """One over HTTP; what it was is looked at later."""
        if not self._followed or not exchange.columns:  # what could not be read has no rows to tell of
            return
        self.reactions.note(recall(exchange, served, outputs, error), exchange.nbytes + exchange.bytes_out)

    @property
    def _followed(self) -> bool:
        """Whether anybody wants to know of predictions; making them from tensors takes time."""
        deployed = self.deployment.running
        return bool(self.outputs or self.services or (deployed is not None and deployed.config.actions))

    async def ask(self, served: ServedModel, ask: Ask[T]) -> tuple[ServedModel, T]:
        return await self.deployment.ask(served, ask)

    # How it is

    def require_ready(self) -> None:
        """Raises ``NotReady`` while the model cannot answer; others that it asks may be out of reach."""
        if self.dataplane.draining:
            raise NotReady("the agent is stopping")
        if self.deployment.running is None:
            raise NotReady("loading")
        self.deployment.running.main.require_ready()

    def restarts(self, item: Input | Service) -> dict[str, Any]:
        """How often it had to be started again, and why; for status."""
        return self._parts[item].told() if item in self._parts else {}

    @property
    def all_outputs(self) -> list[Output]:
        """Those of the settings, and those that the model's rules have."""
        return [*self.outputs, *self._actions.outputs]

    @property
    def uptime(self) -> float:
        """Seconds."""
        return self._clock() - self._since


def _sender(output: Output) -> Callable[[Prediction], Any]:
    async def send(prediction: Prediction) -> None:
        await output.send(message_of(prediction))

    return send


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _no_socket() -> socket.socket:
    raise NotReady("an agent has one front")
