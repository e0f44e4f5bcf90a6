"""A job as it was asked for, and the places where its result and its own files lie.

    OUTPUT, OUTPUT/part-00000.parquet …    the predictions: a folder of parts or one file
    OUTPUT.job/                            manifest.json (written last), rejected/, plan.json, ledger.sqlite

So ``OUTPUT`` holds nothing but predictions, and whatever reads data sets can read it as it is.
Knows no files' content.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from forwardpass.jobs.formats import is_one_file, output_format
from forwardpass.jobs.storage import is_remote

PARTS = "part-{:05}"


class Job(msgspec.Struct, frozen=True):
    """What was asked for. ``keep`` None keeps the columns that the model does not take.

    ``map`` names the data set's columns of a model's input; several are put side by side into one
    vector. Rows of a batch and of a part are the model's usual where None. ``url`` is the server that runs the model
    (named as there, or by its path here); else engines of the job's own do.
    """

    model: str
    input: tuple[str, ...]
    output: str
    where: str = ""
    keep: tuple[str, ...] | None = None
    map: dict[str, tuple[str, ...]] = {}
    format: str | None = None
    threads: int = 1
    batch_rows: int | None = None
    part_rows: int | None = None
    url: str = ""


class Layout:
    """The names of all files that a job writes."""

    def __init__(self, output: str) -> None:
        """Raises ``InvalidInput`` where the output's suffix is no format that can be written."""
        self.output = output.rstrip("/")
        self.format = output_format(output)
        self.own = f"{self.output}.job"
        self.manifest = f"{self.own}/manifest.json"
        self.plan = f"{self.own}/plan.json"
        self.single = is_one_file(output)
        self._parts = f"{self.own}/parts" if self.single else self.output

    def part(self, number: int) -> str:
        """A part of the predictions."""
        return f"{self._parts}/{PARTS.format(number)}.{self.format}"

    def rejected(self, number: int) -> str:
        """The rows of a part that were set aside."""
        return f"{self.own}/rejected/{PARTS.format(number)}.jsonl"

    def ledger(self) -> Path:
        """Where the ledger lies unless another place is named: beside the output, or for an object store here."""
        if is_remote(self.output):
            return Path(f"{self.output.rpartition('/')[2]}.job") / "ledger.sqlite"
        return Path(self.own.removeprefix("file://")) / "ledger.sqlite"
