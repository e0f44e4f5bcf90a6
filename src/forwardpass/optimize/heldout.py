"""Held-out rows: a labelled data set as model inputs, with some rows set apart for calibration.

    files ─► rows that can be read and have a label ─► calibration rows (fixed draw) | held-out rows

A calibration row is never a held-out row: a model tuned on a row says nothing by answering it. Reads what
jobs read, all of it into memory. Knows no metric and runs no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardpass.errors import InvalidInput, InvalidRows, nearest
from forwardpass.jobs.dataset import DataSet, Found, Rows, find_data_set
from forwardpass.jobs.mapping import ColumnMap
from forwardpass.jobs.storage import create_storage
from forwardpass.jobs.values import take
from forwardpass.types import Array, Columns, Signature

LABELS = ("label", "target")  # columns that are taken as the label unless one is named
SEED = 20_240  # of the draw of calibration rows: the same data gives the same rows
READ = 4096  # rows that are read at once
MOST_CALIBRATION = 256  # rows, unless the user says: more changes the ranges of activations little
_PATH = "path"  # the column of a data set of images that names their files


@dataclass(frozen=True)
class LabelledRows:
    """Rows with their labels. ``labels`` are objects as the file gives them, ``numbers`` places in the data set."""

    columns: Columns = field(repr=False)
    labels: Array = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Array) -> LabelledRows:
        """Some of the rows, by index or by mask."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return LabelledRows(columns, self.labels[rows], self.numbers[rows])


@dataclass(frozen=True)
class HeldOut:
    """``fingerprint`` is a SHA-256 over all rows, ``label`` the column; ``unusable`` says why rows were left out."""

    rows: LabelledRows
    calibration: LabelledRows
    fingerprint: str
    label: str
    unusable: dict[int, str]


def read_held_out(
    data: Sequence[str],
    signature: Signature,
    label: str | None = None,
    calibration_rows: int | None = None,
    inputs: Mapping[str, Sequence[str]] | None = None,
) -> HeldOut:
    """Read a labelled data set for a model with this signature.

    ``calibration_rows`` defaults to a tenth of the rows, at most 256. ``inputs`` maps an input to its columns where
    names differ. Raises ``InvalidInput`` where there is no label, no row left, or the columns do not suit the model.
    """
    if not signature.batched:
        raise InvalidInput(
            "the model runs one request at a time, so its held-out rows cannot be told apart; export it with a free "
            "first axis, or say `batching: true` in model.yaml"
        )
    found = find_data_set(data, None, "")
    reader = _Reader(found, signature, label, inputs or {})
    everything = reader.read()
    rows, calibration = _split(everything, calibration_rows)
    return HeldOut(rows, calibration, _fingerprint(everything), reader.label, reader.unusable)


class _Reader:
    """Reads a data set once. ``unusable`` has the rows that were left out, and why."""

    def __init__(
        self, found: Found, signature: Signature, label: str | None, inputs: Mapping[str, Sequence[str]]
    ) -> None:
        self.unusable: dict[int, str] = {}
        self._found = found
        self._data = DataSet(found.facts)
        self._by_folder = found.facts.format == "images" and label is None and not _named(self._data.schema.names)
        self.label = _PATH if self._by_folder else _label_column(self._data.schema.names, label)
        schema = self._data.schema.remove(self._data.schema.get_field_index(self.label))
        self._map = ColumnMap(schema, signature, inputs, [], self._data.typed)

    def read(self) -> LabelledRows:
        parts = [part for part in self._parts() if len(part)]
        if not parts:
            why = next(iter(self.unusable.values()), "there are none")
            raise InvalidInput(f"no row of the held-out data can be used: {why}")
        names = parts[0].columns
        columns = {name: _joined(name, [part.columns[name] for part in parts]) for name in names}
        labels = np.concatenate([part.labels for part in parts])
        if self._by_folder and len(set(labels.tolist())) < 2:
            raise InvalidInput(
                f"the images have no labels: put them into folders named by class, or label=CLASS "
                f"(all lie in {labels[0]!r})"
            )
        return LabelledRows(columns, labels, np.concatenate([part.numbers for part in parts]))

    def _parts(self) -> list[LabelledRows]:
        entries = self._found.entries
        parts: list[LabelledRows] = []
        before: dict[str, int] = {}
        total = 0
        for piece in self._found.reader.scan_all(create_storage(entries[0].name), entries, READ):
            first = 0 if piece.files else before.setdefault(piece.file, total)
            total += piece.rows
            for rows in self._data.read(piece, [*self._map.columns, self.label], READ):
                parts.append(self._part(rows, first))
        return parts

    def _part(self, rows: Rows, first: int) -> LabelledRows:
        """The rows of a chunk that have a label and suit the model's inputs."""
        self.unusable.update({first + number: bad.reason for number, bad in rows.bad.items()})
        column = rows.columns[self.label]
        labels: list[Any] = column if isinstance(column, list) else column.to_pylist()
        if self._by_folder:
            labels = [PurePosixPath(path).parent.name for path in labels]
        without = {place: f"no label in column {self.label!r}" for place, value in enumerate(labels) if _missing(value)}
        batch, places = self._taken(rows, without, first)
        chosen = np.empty(len(places), object)
        chosen[:] = [labels[place] for place in places]
        return LabelledRows(batch, chosen, np.array([first + rows.numbers[place] for place in places], np.int64))

    def _taken(self, rows: Rows, wrong: dict[int, str], first: int) -> tuple[Columns, list[int]]:
        columns = {name: rows.columns[name] for name in self._map.columns}
        places = [place for place in range(len(rows.numbers)) if place not in wrong]
        batch: Columns = {}
        try:
            batch = self._map.model_columns(take(columns, places), len(places)) if places else {}
        except InvalidRows as error:
            wrong |= {places[row]: reason for row, reason in error.rows.items()}
            places = [place for place in places if place not in wrong]
            batch = self._map.model_columns(take(columns, places), len(places)) if places else {}
        self.unusable.update({first + rows.numbers[place]: reason for place, reason in wrong.items()})
        return batch, places


def _label_column(names: Sequence[str], given: str | None) -> str:
    there = ", ".join(names)
    if given is not None:
        if given not in names:
            raise InvalidInput(f"--label: there is no column {given!r}.{nearest(given, names)} Columns: {there}")
        return given
    if (found := _named(names)) is None:
        raise InvalidInput(
            f"the held-out data has no column {' or '.join(map(repr, LABELS))}; say which one has the right answers "
            f"with --label. Columns: {there}"
        )
    return found


def _named(names: Sequence[str]) -> str | None:
    return next((name for name in LABELS if name in names), None)


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _joined(name: str, parts: Sequence[Array]) -> Array:
    if len({part.shape[1:] for part in parts}) > 1 or any(
        isinstance(part.flat[0], np.ndarray | list) for part in parts
    ):
        raise InvalidInput(f"input {name!r}: rows of unlike length cannot be held-out rows; pad them to one length")
    return np.concatenate(parts)


def _split(everything: LabelledRows, calibration_rows: int | None) -> tuple[LabelledRows, LabelledRows]:
    """Held-out rows and calibration rows; each in the data set's order."""
    count = min(MOST_CALIBRATION, len(everything) // 10) if calibration_rows is None else calibration_rows
    if count >= len(everything):
        raise InvalidInput(
            f"--calibration-rows {count}: the data has {len(everything)} rows that can be used, and calibration rows "
            "are never held-out rows; take fewer, or bring more data"
        )
    chosen = np.zeros(len(everything), bool)
    chosen[np.random.default_rng(SEED).permutation(len(everything))[:count]] = True
    return everything.take(~chosen), everything.take(chosen)


def _fingerprint(rows: LabelledRows) -> str:
    """SHA-256 over every value of every row, with names, types and shapes."""
    digest = hashlib.sha256()
    for name, column in sorted({**rows.columns, "": rows.labels}.items()):
        digest.update(f"{name}\0{column.dtype.kind}\0{column.shape}\0".encode())
        if column.dtype.kind != "O":
            digest.update(np.ascontiguousarray(column).tobytes())
            continue
        for value in column.ravel().tolist():
            content = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
