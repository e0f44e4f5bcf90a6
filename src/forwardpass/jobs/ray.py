"""Workers on a Ray cluster: a job's parts as the items of a Ray Data set, each done by an actor with an engine.

    lease parts → a data set of them → map_batches over actors → what became of each, as it comes → the ledger

Ray places the actors and starts those of a lost node again; attempts are counted in the ledger alone.
Every node must have this package, and reach model, input and output by the same paths or URLs (and
have the environment that leads to an object store). The only module that knows Ray.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import ray
import ray.data
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from forwardpass.config import available_cores
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidModel, InvalidSettings
from forwardpass.jobs.cluster import ONE_OF_OURS
from forwardpass.jobs.crew import LEASE, LOADING, ONE_THREAD, Crew, Listener, settle
from forwardpass.jobs.engine import open_engine
from forwardpass.jobs.job import Job
from forwardpass.jobs.ledger import Ledger, Part
from forwardpass.jobs.messages import Begin, Done, Failed, Loaded, Refused
from forwardpass.jobs.part import PartRunner
from forwardpass.jobs.storage import is_remote
from forwardpass.jobs.worker import create_runner, fail
from forwardpass.types import Signature

log = logging.getLogger(__name__)

SPARE = 1  # logical CPUs that stay free: where actors have all of them, Ray Data waits for ever
ROUND = 4096  # parts of one data set
POLL = 0.2  # seconds between two looks at what the actors do
OFTEN = 0.5  # seconds between two reports of progress
REPORT = "report"  # the column that comes back: a JSON text of one of these
_LOST = "the Ray worker that did it ended, or made no progress within {:g} s"
_reports = msgspec.json.Decoder(tuple[int, Done | Failed | Refused])


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
        self._round: _Round | None = None

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
            task = ray.remote(num_cpus=self._threads, max_retries=0)(_describe)
            self._loaded = task.remote(self._model, self._threads, _folder(self._model))
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
        setup = _Setup(self._model, self._threads, _folder(self._model, begin.job), begin, self._lease)
        while parts := self._leased(ledger):
            self._round = _Round(setup, parts, ledger, listener, self._loading)
            try:
                self._round.run(self._workers)
            except RayError as error:
                raise BackendFailed(f"the Ray cluster ({self._address}) was lost: {_said(error)}") from None
            finally:
                self._round.end()

    def stop(self) -> None:
        """What was connected here ends, and its actors with it; a connection that stood before stays."""
        if self._connected:
            ray.shutdown()
            self._connected = False

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        own = self._address == ONE_OF_OURS
        with _signals_kept(), _hushed():
            try:
                ray.init(
                    address=self._address,
                    num_cpus=available_cores() + SPARE if own else None,
                    include_dashboard=False if own else None,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            except (ConnectionError, RuntimeError, ValueError, RayError) as error:
                raise InvalidSettings(
                    f"no Ray cluster at {self._address}: {_said(error)}; start one (ray start --head), name another "
                    f"(--address HOST:PORT), or let this run start its own (--address {ONE_OF_OURS})"
                ) from None
        self._connected = True
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs what the ledger says

    def _leased(self, ledger: Ledger) -> dict[int, Part]:
        parts: dict[int, Part] = {}
        while len(parts) < ROUND and (part := ledger.lease("ray", self._lease)) is not None:
            parts[part.number] = part
        return parts


class _Setup(msgspec.Struct, frozen=True):
    """What an actor needs to know. ``folder`` is where relative paths begin, None where there are none."""

    model: str
    threads: int
    folder: str | None
    begin: Begin
    lease: float


@dataclass
class _Round:
    """One data set of parts. What is not heard of at its end failed, or was never begun and waits as before."""

    setup: _Setup
    parts: dict[int, Part]
    ledger: Ledger
    listener: Listener
    loading: float
    watch: Any = None
    begun: dict[int, int] = field(default_factory=dict)
    heard: queue.SimpleQueue[str | Exception | None] = field(default_factory=queue.SimpleQueue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, workers: int) -> None:
        """Raises ``BackendFailed`` where no part could even be begun, or nothing is heard any more."""
        self.watch = _start_watch()
        dataset = _create_dataset(self.setup, list(self.parts.values()), workers, self.watch)
        threading.Thread(target=self._read, args=(dataset,), daemon=True).start()
        silence = self.setup.lease + self.loading  # an actor that hangs ends after its lease; another has to load
        latest = time.monotonic()
        error: Exception | None = None
        while True:
            told = self._look()
            try:
                item = self.heard.get(timeout=POLL)
            except queue.Empty:
                item = ""
            if not isinstance(item, str):
                error = item
                break
            if item:
                self._hear(item)
            if item or told:
                latest = time.monotonic()
            elif time.monotonic() - latest > silence:
                raise BackendFailed(
                    f"no worker of the Ray cluster was heard of within {silence:g} s; has it "
                    f"{self.setup.threads} free CPUs? --resume goes on"
                )
            self.listener.tick()
        self._settle_rest(error)

    def end(self) -> None:
        self.stopped.set()
        with suppress(RayError):
            if self.watch is not None:
                ray.kill(self.watch)

    def _read(self, dataset: ray.data.Dataset) -> None:
        """On a thread: what comes back. Whatever ends it, the end is told."""
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                column: Any = batch[REPORT]
                for report in column.to_pylist():
                    self.heard.put(report)
                if self.stopped.is_set():
                    break
            self.heard.put(None)
        except Exception as error:  # noqa: BLE001 - the loop waits for it
            self.heard.put(error)

    def _hear(self, text: str) -> None:
        number, report = _reports.decode(text)
        if isinstance(report, Refused):
            raise InvalidModel(report.message)
        part = self.parts.pop(number, None)
        if part is not None:
            settle(part, report, self.ledger, self.listener)

    def _look(self) -> bool:
        """Progress within parts; whether there was any."""
        now: dict[int, int] = ray.get(self.watch.look.remote(), timeout=self.setup.lease)
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
        reason = _LOST.format(self.setup.lease)
        for number, part in self.parts.items():
            if number in self.begun:
                settle(part, Failed(reason, hopeless=False), self.ledger, self.listener)
            else:
                self.ledger.reopen(number)


class _Watch:
    """An actor: which parts were begun, and how many of their rows are done. A new one for each data set."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """How often it was begun by now."""
        self._rows[number] = 0
        self._begun[number] += 1
        return self._begun[number]

    def tell(self, number: int, rows: int) -> None:
        self._rows[number] = rows

    def look(self) -> dict[int, int]:
        return self._rows


class _PartWorker:
    """What an actor of ``map_batches`` holds: one engine, and what does parts with it."""

    def __init__(self, setup: bytes, watch: Any) -> None:
        self._setup = msgspec.msgpack.decode(setup, type=_Setup)
        self._watch = watch
        self._told = 0.0
        self._refused: Refused | None = None
        self._runner: PartRunner | None = None
        try:
            self._runner = _create_runner(self._setup)
        except (ForwardpassError, OSError) as error:
            self._refused = Refused(f"{os.uname().nodename}: {fail(error).reason}")

    def __call__(self, batch: pa.Table) -> pa.Table:
        texts = [self._do(msgspec.json.decode(text, type=Part)) for text in batch["part"].to_pylist()]
        return pa.table({REPORT: pa.array(texts, pa.string())})

    def _do(self, part: Part) -> str:
        report: Done | Failed | Refused
        if self._runner is None:
            assert self._refused is not None
            report = self._refused
        else:
            report = self._try(self._runner, part)
        return msgspec.json.encode((part.number, report)).decode()

    def _try(self, runner: PartRunner, part: Part) -> Done | Failed:
        """One attempt. Ray tries again what an actor had when it died; whether to do so is the ledger's to say."""
        if ray.get(self._watch.begin.remote(part.number)) > 1:
            return Failed(_LOST.format(self._setup.lease), hopeless=False)
        self._watchdog()
        try:
            return Done(runner.run(part, lambda rows: self._tell(part.number, rows)))
        except Exception as error:  # noqa: BLE001 - the batch loop of a job: whatever is raised, the part is told
            return fail(error)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _tell(self, number: int, rows: int) -> None:
        now = time.monotonic()
        if now - self._told >= OFTEN:
            self._told = now
            self._watchdog()
            self._watch.tell.remote(number, rows)

    def _watchdog(self) -> None:
        """Without progress within the lease this process ends, also where it holds the interpreter."""
        faulthandler.dump_traceback_later(self._setup.lease, exit=True)


def _create_dataset(setup: _Setup, parts: list[Part], workers: int, watch: Any) -> ray.data.Dataset:
    """Nothing runs yet. For each actor one part is being done and one waits, so that it is never idle."""
    items = [{"part": msgspec.json.encode(part).decode()} for part in parts]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    dataset.context.max_errored_blocks = -1  # what is not heard of is found missing at the end
    return dataset.map_batches(
        _PartWorker,
        fn_constructor_args=(msgspec.msgpack.encode(setup), watch),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(parts)), max_tasks_in_flight_per_actor=2),
        num_cpus=setup.threads,
    )


def _start_watch() -> Any:
    """On this node, so that no other node takes it along."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor: Any = ray.remote(_Watch)
    return actor.options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here).remote()


def _create_runner(setup: _Setup) -> PartRunner:
    _enter(setup.folder)
    os.environ.update(ONE_THREAD)
    pa.set_cpu_count(setup.threads)
    return create_runner(open_engine(setup.model, setup.threads), setup.begin)


def _describe(model: str, threads: int, folder: str | None) -> bytes:
    """A task: load the model once, to know what it takes."""
    try:
        _enter(folder)
        return msgspec.json.encode(Loaded(open_engine(model, threads).signature))
    except (ForwardpassError, OSError) as error:
        return msgspec.json.encode(Refused(f"{os.uname().nodename}: {fail(error).reason}"))


def _folder(model: str, job: Job | None = None) -> str | None:
    """The folder in which relative paths mean what they mean here; None where there are none."""
    names = [model, *([*job.input, job.output] if job else [])]
    if all(is_remote(name) or name.startswith("file://") or Path(name).is_absolute() for name in names):
        return None
    return str(Path.cwd())


def _enter(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _said(error: BaseException) -> str:
    """The first line of what Ray says; the rest is its traceback."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; it stays with whoever had it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _hushed() -> Iterator[None]:
    """Ray's own processes and libraries say how they start, on this process's stderr."""
    sys.stderr.flush()
    with open(os.devnull, "wb") as nothing:
        kept = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
