"""A whole job: find, check, plan, work, and the manifest at the end.

    find the files → load the model → match columns → plan parts (or take up the ledger) → crew → manifest

All that is wrong with what was asked is said before any row is read. Knows no terminal and no server.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa

from forwardpass.errors import BackendFailed, InvalidInput, NotFound
from forwardpass.jobs.crew.base import Crew, Listener, create_crew
from forwardpass.jobs.crew.messages import Begin
from forwardpass.jobs.dataset import DataSet, Found, find_data_set
from forwardpass.jobs.engine import find_job_model
from forwardpass.jobs.job import Job, Layout
from forwardpass.jobs.ledger import Ledger, Part, PartResult
from forwardpass.jobs.manifest import Manifest, ManifestModel, ManifestPart, Totals, encode_manifest
from forwardpass.jobs.mapping import ColumnMap
from forwardpass.jobs.merge import merge
from forwardpass.jobs.plan import (
    create_facts,
    files_apart,
    newly_mended,
    plan_parts,
    require_same,
    unreadable,
    with_mended,
)
from forwardpass.jobs.progress import Progress, Snapshot
from forwardpass.jobs.sizes import create_sizes
from forwardpass.jobs.storage import Storage, create_storage
from forwardpass.types import Signature

BESIDE = 2  # workers where a server predicts: while one reads and writes, the other's rows wait there


@dataclass(frozen=True)
class Options:
    """How a job is run; none of it changes its result. ``max_rejected``: rows, or a share of all below 1.

    ``workers`` None: as many as there is room for. ``engine`` is ``local``, or ``ray`` on the cluster at ``address``.
    """

    workers: int | None
    resume: bool = False
    ledger: Path | None = None
    max_rejected: float | None = None
    engine: str = "local"
    address: str = ""


@dataclass(frozen=True)
class _Asked:
    """What was asked for, found to be sound: ``outputs`` is the schema of what is written."""

    found: Found
    signature: Signature
    outputs: pa.Schema
    digests: dict[str, str]


class Run:
    """One run of a job. ``on_progress`` is called several times a second, ``on_note`` with what may surprise."""

    def __init__(
        self,
        job: Job,
        options: Options,
        on_progress: Callable[[Snapshot], None],
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.layout = Layout(job.output)
        self._job = job
        self._options = options
        self._on_progress = on_progress
        self._on_note = on_note
        self._model = find_job_model(job.model, job.url)
        self._storage: Storage = create_storage(job.output)

    def run(self) -> Manifest:
        """Do the job, or what is left of it.

        Raises ``InvalidInput``, ``InvalidModel`` or ``NotFound`` for what was asked, ``BackendFailed`` where parts
        are missing at the end; the ledger keeps what is done.
        """
        if (complete := self._complete()) is not None:
            return complete
        crew = create_crew(self._options.engine, self._model.address, self._job.threads, self._options.address)
        try:
            crew.start(1)  # it loads while the files are looked at
            asked = self._ask(crew)
            with closing(Ledger(self._options.ledger or self.layout.ledger())) as ledger:
                return self._work(crew, ledger, asked)
        except (OSError, sqlite3.OperationalError) as error:
            raise BackendFailed(f"{self.layout.output}: {error}; what is done is kept, go on with --resume") from error
        finally:
            crew.stop()

    def _ask(self, crew: Crew) -> _Asked:
        """All that can be found wrong before any row is read."""
        found = find_data_set(self._job.input, self._job.format, self._job.where)
        signature = crew.signature()
        data = DataSet(found.facts)
        columns = ColumnMap(data.schema, signature, self._job.map, self._job.keep, data.typed)
        if columns.left_out:
            self._on_note(f"no column for {', '.join(columns.left_out)}: left out, as not required")
        for why in unreadable(found).values():
            self._on_note(f"{why}; its rows will be missing")
        return _Asked(found, signature, columns.outputs, self._model.digests())

    def _work(self, crew: Crew, ledger: Ledger, asked: _Asked) -> Manifest:
        self._plan(ledger, asked)
        progress = self._take_up(ledger)
        self._require_few_rejected(progress)
        workers = self._options.workers or (BESIDE if self._job.url else crew.room())
        crew.start(min(workers, max(1, progress.parts - progress.totals.parts)))
        progress.begin()
        crew.work(Begin(self._job, asked.found.facts, asked.digests), ledger, self._listener(progress))
        self._on_progress(progress.snapshot())
        self._require_complete(ledger)
        return self._finish(ledger, asked)

    def _complete(self) -> Manifest | None:
        """The manifest of an earlier run that ended; refused unless this one was to go on with it."""
        if self._storage.find(self.layout.manifest) is None:
            return None
        if not self._options.resume:
            raise InvalidInput(
                f"{self.layout.output}: is complete already; choose another output, or remove it and {self.layout.own}"
            )
        found = find_data_set(self._job.input, self._job.format, self._job.where)
        planned = self._planned()
        facts = with_mended(planned, self._facts(found, self._model.digests()))
        require_same(planned, facts, self.layout.output)
        return msgspec.json.decode(self._storage.read(self.layout.manifest), type=Manifest)

    def _facts(self, found: Found, digests: dict[str, str]) -> dict[str, str]:
        """All that the result depends on."""
        return {**create_facts(self._job, found, digests), **self._model.facts()}

    def _planned(self) -> dict[str, str]:
        """The facts of whoever began to write this output; empty where nobody did."""
        if self._storage.find(self.layout.plan) is None:
            return {}
        return msgspec.json.decode(self._storage.read(self.layout.plan), type=dict[str, str])

    def _plan(self, ledger: Ledger, asked: _Asked) -> None:
        """Parts into the ledger, unless they are there: then they must be of this very job."""
        before = ledger.facts() or self._planned()
        facts = with_mended(before, self._facts(asked.found, asked.digests))
        mended = newly_mended(before, facts)
        if before:
            if not self._options.resume:
                raise InvalidInput(
                    f"{self.layout.output}: holds a run that has not ended; go on with it (--resume), choose another "
                    f"output, or remove it and {self.layout.own}"
                )
            require_same({**before, **mended}, facts, self.layout.output)
        else:
            self._require_empty()
        if mended or not ledger.facts():
            sizes = create_sizes(asked.signature, self._job.batch_rows, self._job.part_rows)
            parts = plan_parts(asked.found, sizes.part, files_apart(facts))
            (ledger.plan_again if ledger.facts() else ledger.plan)(facts, parts)
        if newly_mended(self._planned(), facts):
            self._storage.delete(self.layout.plan)
        if not self._storage.create(self.layout.plan, msgspec.json.encode(facts)):
            require_same(self._planned(), facts, self.layout.output)  # another machine may have begun meanwhile

    def _require_empty(self) -> None:
        """Nothing of another's may lie where the predictions go."""
        try:
            self._storage.list(self.layout.output)
        except NotFound:
            return
        raise InvalidInput(f"{self.layout.output}: there is something already; choose another output, or remove it")

    def _take_up(self, ledger: Ledger) -> Progress:
        """What is left to do. A part counts as done only where its file is there as it was committed."""
        ledger.recover()
        counts = ledger.count()
        progress = Progress(sum(rows for _, rows in counts.values()), sum(parts for parts, _ in counts.values()))
        for number, result in ledger.done():
            entry = self._storage.find(self.layout.part(number))
            if entry is None or entry.size != result.bytes:
                ledger.reopen(number)
                self._storage.delete(self.layout.part(number))
            else:
                progress.already(result)
        return progress

    def _listener(self, progress: Progress) -> Listener:
        def done(part: Part, result: PartResult) -> None:
            progress.done(part.number, result)
            self._require_few_rejected(progress)

        def failed(part: Part, _reason: str, for_good: bool) -> None:
            progress.lost(part.number, for_good)
            if self._job.url:  # a server's answers differ in their last bits: what a lost attempt left is not the same
                self._storage.delete(self.layout.part(part.number))
                self._storage.delete(self.layout.rejected(part.number))

        return Listener(
            progress.rows_of,
            done,
            failed,
            lambda: self._on_progress(progress.snapshot()),
        )

    def _require_few_rejected(self, progress: Progress) -> None:
        allowed = self._options.max_rejected
        if allowed is None:
            return
        most = allowed * progress.rows if allowed < 1 else allowed
        if progress.totals.rejected > most:
            raise BackendFailed(
                f"{progress.totals.rejected} of {progress.totals.rows} rows were rejected, more than --max-rejected "
                f"allows; {self.layout.own}/rejected says why. With a higher limit, --resume goes on"
            )

    def _require_complete(self, ledger: Ledger) -> None:
        failed = ledger.failed()
        if not failed:
            return
        for number, _, _ in failed:
            self._storage.sweep(self.layout.part(number))
            self._storage.sweep(self.layout.rejected(number))
        number, reason, _ = failed[0]
        rows = sum(rows for _, _, rows in failed)
        unknown = sum(rows == 0 for _, _, rows in failed)
        missing = [f"{rows} rows"] * (rows > 0) + [f"all rows of {unknown} unreadable file{'s' * (unknown > 1)}"] * (
            unknown > 0
        )
        raise BackendFailed(
            f"{len(failed)} of {ledger.parts()} parts ({' and '.join(missing)}) are missing from {self.layout.output}; "
            f"part {number}: {reason}. --resume tries them again"
        )

    def _finish(self, ledger: Ledger, asked: _Asked) -> Manifest:
        results = list(ledger.done())
        names = [self.layout.part(number) for number, _ in results]
        manifest = self._manifest(results, asked)
        if self.layout.single:
            digest, size = merge(self._storage, self.layout, names, asked.outputs)
            file = self.layout.output.rpartition("/")[2]
            whole = ManifestPart(file, manifest.rows_out, size, digest, manifest.rejected, "")
            manifest = msgspec.structs.replace(manifest, parts=[whole])
        local = self._storage.temporary(self.layout.manifest)
        local.write_bytes(encode_manifest(manifest))
        self._storage.publish(local, self.layout.manifest)
        if self.layout.single:
            for name in names:
                self._storage.delete(name)
        return manifest

    def _manifest(self, results: list[tuple[int, PartResult]], asked: _Asked) -> Manifest:
        parts = [
            ManifestPart(
                self.layout.part(number).rpartition("/")[2], item.written, item.bytes, item.digest, item.rejected,
                item.rejected_digest,
            )
            for number, item in results
        ]  # fmt: skip
        totals = Totals()
        for _, result in results:
            totals.add(result)
        return Manifest(
            model=ManifestModel(self._model.name, self._model.version, asked.digests),
            output=self.layout.output,
            inputs={entry.name: f"{entry.size} bytes, {entry.version}" for entry in asked.found.entries},
            rows_in=totals.rows,
            rows_out=totals.written,
            rejected=totals.rejected,
            left_out=totals.left_out,
            seconds=totals.seconds,
            compute_seconds=totals.compute,
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            parts=parts,
        )
