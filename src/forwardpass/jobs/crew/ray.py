"""Workers on a Ray cluster: a job's parts as the items of a Ray Data set, each done by an actor with an engine.

    lease parts → a data set of them → map_batches over actors → what became of each, as it comes → the ledger

Ray places the actors and starts those of a lost node again; attempts are counted in the ledger alone.
Every node must have this package, and reach model, input and output by the same paths or URLs (and
have the environment that leads to an object store). The only module that knows Ray.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import ray
import ray.data
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from forwardpass.config import available_cores
from forwardpass.errors import BackendFailed, InvalidModel, InvalidSettings
from forwardpass.jobs.crew.actor import PART, REPORT, Answer, PartWorker, Setup, Watch, describe, folder_of, lost
from forwardpass.jobs.crew.base import LEASE, LOADING, Crew, Listener, settle
from forwardpass.jobs.crew.cluster import ONE_OF_OURS, hushed, no_cluster, require_answer
from forwardpass.jobs.crew.messages import Begin, Loaded, Refused
from forwardpass.jobs.ledger import Ledger, Part
from forwardpass.types import Signature

log = logging.getLogger(__name__)

SPARE = 1  # logical CPUs that stay free: where actors have all of them, Ray Data waits for ever
ROUND = 4096  # parts of one data set
POLL = 0.2  # seconds between two looks at what the actors do
ENDING = 10.0  # seconds for the thread that reads to see that its data set has ended
_answers = msgspec.json.Decoder(tuple[int, Answer])


class RayCrew(Crew):
    """Actors of a Ray cluster. One that was found is left running, one that was started is ended by ``stop``."""

    def __init__(self, model: str, threads: int, address: str, lease: float = LEASE, loading: float = LOADING) -> None:
        self._model = model
        self._threads = threads
        self._address = address
        self._lease = lease
        self._loading = loading
        self._workers = 1
        self._loaded: Any = None
        self._connected = False

    def room(self) -> int:
        nodes: Any = ray.nodes  # untyped
        cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes() if node["Alive"]]
        places = sum(count // self._threads for count in cpus)
        room = min(places, (sum(cpus) - SPARE) // self._threads)
        if room < 1:
            raise InvalidSettings(
                f"the Ray cluster ({self._address}) has {sum(cpus)} CPUs on {len(cpus)} nodes: a worker needs "
                f"{self._threads} on one node, and {SPARE} more must stay free for Ray Data; add nodes or CPUs"
            )
        return room

    def start(self, count: int) -> None:
        if self._loaded is None:
            self._connect()
        room = self.room()
        if self._loaded is None:
            task = ray.remote(num_cpus=self._threads, max_retries=0)(describe)
            self._loaded = task.remote(self._model, self._threads, folder_of(self._model))
        if count > room:
            log.warning("%d workers asked for, the Ray cluster has room for %d", count, room)
        self._workers = min(count, room)

    def signature(self) -> Signature:
        try:
            report = msgspec.json.decode(ray.get(self._loaded, timeout=self._loading), type=Loaded | Refused)
        except GetTimeoutError:
            raise InvalidModel(
                f"{self._model}: was not loaded within {self._loading:g} s on the Ray cluster ({self._address}); "
                f"are {self._threads} of its CPUs free?"
            ) from None
        except RayError as error:
            raise InvalidModel(f"{self._model}: the Ray worker that loaded it ended ({_said(error)})") from None
        if isinstance(report, Refused):
            raise InvalidModel(report.message)
        return report.signature

    def work(self, begin: Begin, ledger: Ledger, listener: Listener) -> None:
        setup = Setup(self._model, self._threads, folder_of(self._model, begin.job), begin, self._lease)
        while parts := self._leased(ledger):
            turn = _Round(setup, parts, ledger, listener, self._loading)
            try:
                turn.run(self._workers)
            except RayError as error:
                raise BackendFailed(
                    f"the Ray cluster ({self._address}) was lost: {_said(error)}; --resume goes on"
                ) from None
            finally:
                turn.end()

    def stop(self) -> None:
        """What was connected here ends, and its actors with it; a connection that stood before stays."""
        if self._connected:
            ray.shutdown()
            self._connected = False

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        require_answer(self._address)
        own = self._address == ONE_OF_OURS
        with hushed():
            try:
                ray.init(
                    address=self._address,
                    num_cpus=available_cores() + SPARE if own else None,
                    include_dashboard=False if own else None,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            except (ConnectionError, RuntimeError, ValueError, RayError) as error:
                raise no_cluster(self._address, _said(error)) from None
        self._connected = True
        _keep_quiet()

    def _leased(self, ledger: Ledger) -> dict[int, Part]:
        parts: dict[int, Part] = {}
        while len(parts) < ROUND and (part := ledger.lease("ray", self._lease)) is not None:
            parts[part.number] = part
        return parts


@dataclass
class _Round:
    """One data set of parts. What is not heard of at its end failed, or was never begun and waits as before."""

    setup: Setup
    parts: dict[int, Part]
    ledger: Ledger
    listener: Listener
    loading: float
    watch: Any = None
    dataset: Any = None
    reader: threading.Thread | None = None
    begun: dict[int, int] = field(default_factory=dict)
    heard: queue.SimpleQueue[str | Exception | None] = field(default_factory=queue.SimpleQueue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, workers: int) -> None:
        """Raises ``BackendFailed`` where no part could even be begun, or nothing is heard any more."""
        self.watch = _start_watch()
        self.dataset = _create_dataset(self.setup, list(self.parts.values()), workers, self.watch)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        silence = self.setup.lease + self.loading  # an actor that hangs ends after its lease; another has to load
        latest = time.monotonic()
        while True:
            news = self._look()
            with suppress(queue.Empty):
                item = self.heard.get(timeout=POLL)
                if not isinstance(item, str):
                    break
                self._hear(item)
                news = True
            if news:
                latest = time.monotonic()
            elif time.monotonic() - latest > silence:
                raise BackendFailed(
                    f"no worker of the Ray cluster was heard of within {silence:g} s; has it "
                    f"{self.setup.threads} free CPUs? --resume goes on"
                )
            self.listener.tick()
        self._settle_rest(item)

    def end(self) -> None:
        """Also in the middle. No thread is left in Ray: one that calls it while it disconnects ends the process."""
        self.stopped.set()
        with suppress(RayError):
            executor = getattr(self.dataset, "_current_executor", None)  # there is no other way to end an iteration
            if executor is not None:
                executor.shutdown(force=True)
            if self.reader is not None:
                self.reader.join(ENDING)
            if self.watch is not None:
                ray.kill(self.watch)

    def _read(self) -> None:
        """On a thread: what comes back. Whatever ends it, the end is told."""
        try:
            for batch in self.dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                column: Any = batch[REPORT]
                for report in column.to_pylist():
                    self.heard.put(report)
                if self.stopped.is_set():
                    break
            self.heard.put(None)
        except Exception as error:  # noqa: BLE001 - the loop waits for it
            self.heard.put(error)

    def _hear(self, text: str) -> None:
        number, answer = _answers.decode(text)
        if isinstance(answer, Refused):
            raise InvalidModel(answer.message)
        part = self.parts.pop(number, None)
        if part is not None:
            settle(part, answer, self.ledger, self.listener)

    def _look(self) -> bool:
        """Progress within parts; whether there was any."""
        now: dict[int, int] = ray.get(self.watch.look.remote(), timeout=self.loading)
        news = {number: rows for number, rows in now.items() if self.begun.get(number) != rows}
        self.begun.update(news)
        for number, rows in news.items():
            if number in self.parts:
                self.ledger.renew(number, self.setup.lease)
                self.listener.progress(number, rows)
        return bool(news)

    def _settle_rest(self, error: Exception | None) -> None:
        self._look()
        if self.parts and not self.begun:
            raise BackendFailed(f"Ray could not start a worker: {_said(error) if error else 'it gave no reason'}")
        for number, part in self.parts.items():
            if number in self.begun:
                settle(part, lost(self.setup), self.ledger, self.listener)
            else:
                self.ledger.reopen(number)


@dataclass(frozen=True)
class _Notice:
    """A ``Notice`` that goes to the actor that watches."""

    watch: Any

    def begin(self, number: int) -> int:
        return int(ray.get(self.watch.begin.remote(number)))

    def tell(self, number: int, rows: int) -> None:
        self.watch.tell.remote(number, rows)


def _create_dataset(setup: Setup, parts: list[Part], workers: int, watch: Any) -> ray.data.Dataset:
    """Nothing runs yet. For each actor one part is being done and one waits, so that it is never idle."""
    items = [{PART: msgspec.json.encode(part).decode()} for part in parts]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    dataset.context.max_errored_blocks = -1  # what is not heard of is found missing at the end
    return dataset.map_batches(
        PartWorker,
        fn_constructor_args=(msgspec.msgpack.encode(setup), _Notice(watch)),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(parts)), max_tasks_in_flight_per_actor=2),
        num_cpus=setup.threads,
    )


def _start_watch() -> Any:
    """On this node, so that no other node takes it along."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor: Any = ray.remote(Watch)
    return actor.options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here).remote()


def _keep_quiet() -> None:
    """What Ray says of parts and nodes, the ledger and the job say; stdout is for a job's events."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    worker: Any = ray._private.worker  # there is no setting for it
    worker.print_to_stdstream = lambda data, ignore_prefix: log.debug("Ray: %s", data.get("lines"))


def _said(error: BaseException) -> str:
    """The first line of what Ray says; the rest is its traceback."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
