"""The crew's contract: workers that hold one model each, and do the parts that the ledger says are waiting.

``create_crew`` picks the place where they run. Wherever that is, only this process writes the
ledger, and every attempt at a part is counted there; what keeps failing is set aside with its reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from forwardpass.errors import BackendFailed, InvalidSettings, nearest
from forwardpass.jobs.crew.messages import Begin, Done, Failed
from forwardpass.jobs.ledger import Ledger, Part, PartResult
from forwardpass.types import Signature

ATTEMPTS = 3  # of a part, before it is set aside
LEASE = 600.0  # seconds without progress after which a worker is given up
LOADING = 600.0  # seconds in which a model must be loaded
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Listener:
    """Who hears what happens: rows done within a part, a part's result, a part that failed."""

    progress: Callable[[int, int], None]
    done: Callable[[Part, PartResult], None]
    failed: Callable[[Part, str, bool], None]
    tick: Callable[[], None]


class Crew(ABC):
    """Workers that hold one model each. ``start`` is called first, ``stop`` last and whatever happened."""

    @abstractmethod
    def room(self) -> int:
        """How many workers there is room for. Raises ``InvalidSettings`` where there is none."""

    @abstractmethod
    def start(self, count: int) -> None:
        """Have so many workers; the first one's model loads at once."""

    @abstractmethod
    def signature(self) -> Signature:
        """What the model takes and gives, once it is loaded. Raises ``InvalidModel``."""

    @abstractmethod
    def work(self, begin: Begin, ledger: Ledger, listener: Listener) -> None:
        """Have all parts done that wait. Raises ``BackendFailed`` where none can be done any more."""

    @abstractmethod
    def stop(self) -> None:
        """End all workers, whatever they do."""


def create_crew(engine: str, model: str, threads: int, address: str = "") -> Crew:
    """The crew of an engine: ``local``, or ``ray`` with the address of a cluster. Raises ``InvalidSettings``."""
    if engine == "local":
        from forwardpass.jobs.crew.local import LocalCrew

        return LocalCrew(model, threads)
    if engine == "ray":
        from forwardpass.jobs.crew.cluster import choose_cluster

        chosen = choose_cluster(address)
        try:
            from forwardpass.jobs.crew.ray import RayCrew
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "ray":
                raise
            raise InvalidSettings("--engine ray needs Ray: pip install 'forwardpass[ray]'") from None
        return RayCrew(model, threads, chosen)
    raise InvalidSettings(f"--engine {engine}: there is no such engine.{nearest(engine, ('local', 'ray'))}")


def settle(part: Part, report: Done | Failed, ledger: Ledger, listener: Listener) -> None:
    """An attempt at a part has ended. Raises ``BackendFailed`` where no other part could be done either."""
    if isinstance(report, Done):
        ledger.commit(part.number, report.result)
        listener.done(part, report.result)
        return
    listener.failed(part, report.reason, ledger.fail(part.number, report.reason, ATTEMPTS))
    if report.hopeless:
        raise BackendFailed(f"{report.reason}; make room, and go on with --resume")
