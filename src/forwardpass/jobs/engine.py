"""What runs the batches of a job: an engine in this process, or a server that has the model.

``find_job_model`` says which model is meant and where it runs, ``open_engine`` gets it ready in a
worker. Knows no data sets and no parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forwardpass.engine.batch import run_batch
from forwardpass.engine.engine import Engine
from forwardpass.errors import ForwardpassError
from forwardpass.registry import ModelFiles, digest_files, find_model
from forwardpass.types import Columns, Signature

WEB = ("http://", "https://")


class JobEngine(ABC):
    """One model, ready. ``signature`` is what it takes and gives.

    ``digests`` are those of its files, looked at after they were loaded: were they changed meanwhile, it shows.
    Empty where a server has them.
    """

    signature: Signature
    digests: Mapping[str, str] = {}

    @abstractmethod
    def run(self, columns: Columns, rows: int) -> tuple[Columns, dict[int, ForwardpassError], float]:
        """Outputs of the rows that have an answer, stacked in order; why the others have none; seconds of compute.

        ``rows`` is 1 where the model is not batched. Raises ``ForwardpassError`` where nothing can be said of any row.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what it holds; it cannot be used afterwards."""


class LocalEngine(JobEngine):
    """An engine in this process."""

    def __init__(self, engine: Engine, digests: Mapping[str, str] | None = None) -> None:
        self.signature = engine.signature
        self.digests = digests or {}
        self._engine = engine

    def run(self, columns: Columns, rows: int) -> tuple[Columns, dict[int, ForwardpassError], float]:
        outputs, failures, times = run_batch(self._engine, columns, [1] * rows)
        return outputs, failures, times.total

    def close(self) -> None:
        self._engine.close()


@dataclass(frozen=True)
class JobModel:
    """The model of a job. ``address`` is for ``open_engine``; ``files`` None where only a server knows them."""

    name: str
    version: str
    address: str
    files: ModelFiles | None

    def digests(self) -> dict[str, str]:
        """SHA-256 of its files by name; none where only a server knows them."""
        return {} if self.files is None else digest_files(self.files)

    def facts(self) -> dict[str, str]:
        """What must not change before the job ends, besides the digests."""
        return {} if self.files is not None else {"the model's name or version": f"{self.name}/{self.version}"}


def find_job_model(model: str, url: str) -> JobModel:
    """The model at a path; with ``url``, as that server has it: by its path here, or as NAME or NAME/VERSION.

    Raises ``NotFound``, ``InvalidModel``, and ``NotReady`` where the server does not answer.
    """
    if not url:
        files = find_model(Path(model))
        return JobModel(files.name, files.version, model, files)
    from forwardpass.jobs.remote import find_remote

    if Path(model).exists():
        files = find_model(Path(model))
        return JobModel(*find_remote(url, files.name, files.version), files)
    name, _, version = model.partition("/")
    return JobModel(*find_remote(url, name, version), None)


def open_engine(address: str, threads: int) -> JobEngine:
    """The model at a path, loaded here, or at a URL, where a server has it. Raises ``ForwardpassError``."""
    if address.startswith(WEB):
        from forwardpass.jobs.remote import RemoteEngine

        return RemoteEngine(address)
    files = find_model(Path(address))
    engine = Engine.open(files, threads)
    return LocalEngine(engine, digest_files(files))
