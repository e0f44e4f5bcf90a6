"""The manifest: what a finished job is made of. Whoever sees one sees a complete result.

Knows how it is laid out, and not how it came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from forwardpass import __version__
from forwardpass.jobs.ledger import PartResult


class ManifestModel(msgspec.Struct, frozen=True):
    """The model that ran: ``files`` are the SHA-256 digests of its artifact and of what its pipeline reads."""

    name: str
    version: str
    files: Mapping[str, str]


class ManifestPart(msgspec.Struct, frozen=True):
    """A file of predictions, by its name within the output; of an output that is one file, that file.

    ``rejected_sha256`` is that of the part's own rejected rows, "" where there are none or the parts were joined.
    """

    file: str
    rows: int
    bytes: int
    sha256: str
    rejected: int
    rejected_sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """``rows_in`` = ``rows_out`` + ``rejected`` + ``left_out``. ``seconds`` is the time of all runs' parts together,
    ``compute_seconds`` that of the engines in it."""

    model: ManifestModel
    output: str
    inputs: Mapping[str, str]
    rows_in: int
    rows_out: int
    rejected: int
    left_out: int
    seconds: float
    compute_seconds: float
    finished: str
    parts: Sequence[ManifestPart]
    forwardpass: str = __version__


class Totals(msgspec.Struct):
    """What became of all rows so far."""

    rows: int = 0
    written: int = 0
    rejected: int = 0
    left_out: int = 0
    parts: int = 0
    seconds: float = 0.0
    compute: float = 0.0

    def add(self, result: PartResult) -> None:
        self.rows += result.rows
        self.written += result.written
        self.rejected += result.rejected
        self.left_out += result.left_out
        self.parts += 1
        self.seconds += result.seconds
        self.compute += result.compute


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
