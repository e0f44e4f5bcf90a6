"""One part, from its rows to its committed files: read, predict, write under another name, publish.

The rejected rows are published first and the predictions last: a part whose file of predictions
is there is complete. Doing a part again gives the same bytes. Knows no ledger and no other part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import pyarrow as pa

from forwardpass.errors import InvalidInput
from forwardpass.jobs.dataset import DataSet, Rows
from forwardpass.jobs.formats import create_writer
from forwardpass.jobs.formats.base import Piece, Writer
from forwardpass.jobs.job import Layout
from forwardpass.jobs.ledger import Part, PartResult
from forwardpass.jobs.mapping import ColumnMap
from forwardpass.jobs.predictor import INPUTS, Predictor, Rejection
from forwardpass.jobs.storage import create_storage
from forwardpass.jobs.values import take

READING = "reading"  # the step of rows that cannot be read at all
SHORT = 200  # characters of a rejected value that are written down


class PartRunner:
    """Runs parts of one job, one after the other."""

    def __init__(self, data: DataSet, columns: ColumnMap, predictor: Predictor, layout: Layout, window: int) -> None:
        self._data = data
        self._map = columns
        self._predictor = predictor
        self._layout = layout
        self._window = window

    def run(self, part: Part, tell: Callable[[int], None]) -> PartResult:
        """Do a part and commit it; ``tell`` hears how many rows of it are done.

        Raises ``ForwardpassError`` or ``OSError`` where the part cannot be done; nothing is left then.
        """
        started = perf_counter()
        storage = create_storage(self._layout.output)
        target, rejected = self._layout.part(part.number), self._layout.rejected(part.number)
        for name in (target, rejected):
            storage.sweep(name)  # an attempt that was killed
        local, local_rejected = storage.temporary(target), storage.temporary(rejected)
        try:
            tally = self._write(part, local, local_rejected, tell)
            if tally.read != part.rows:
                raise InvalidInput(f"{part.pieces[0].file}: {tally.read} rows were read where {part.rows} were planned")
            digest, size = digest_of(local), local.stat().st_size
            rejected_digest = digest_of(local_rejected) if tally.rejected else ""
            if tally.rejected:
                storage.publish(local_rejected, rejected)
            else:
                storage.delete(rejected)
            storage.publish(local, target)
        finally:
            for path in (local, local_rejected):
                with suppress(FileNotFoundError):
                    path.unlink()
        seconds = perf_counter() - started
        return PartResult(
            tally.read,
            tally.written,
            tally.rejected,
            tally.left_out,
            digest,
            size,
            seconds,
            tally.compute,
            rejected_digest,
        )

    def _write(self, part: Part, local: Path, local_rejected: Path, tell: Callable[[int], None]) -> _Tally:
        tally = _Tally()
        with (
            local.open("wb") as file,
            local_rejected.open("wb") as aside,
            create_writer(self._layout.format, file, self._map.outputs) as writer,
        ):
            for piece in part.pieces:
                for rows in self._data.read(piece, self._map.columns, self._window):
                    aside.writelines(self._window_done(piece, rows, writer, tally, lambda: tell(tally.read)))
                    tell(tally.read)
        return tally

    def _window_done(
        self, piece: Piece, rows: Rows, writer: Writer, tally: _Tally, alive: Callable[[], None]
    ) -> Iterable[bytes]:
        """Predict and write the rows of a window; gives the lines of those set aside."""
        kept, wrong = self._map.kept_columns(rows.columns)
        rejected = {row: Rejection(INPUTS, reason) for row, reason in wrong.items()}
        good: Sequence[int] = range(len(rows.numbers))
        if wrong:
            good = [row for row in good if row not in wrong]
        answers = self._predictor.predict(rows.columns, good, alive)
        rejected.update(answers.rejected)
        if answers.rows:
            columns = {**take(kept, answers.rows), **answers.columns}
            writer.write(pa.RecordBatch.from_pydict(columns, self._map.outputs))
        tally.read += len(rows.numbers) + len(rows.bad) + rows.left_out
        tally.written += len(answers.rows)
        tally.rejected += len(rejected) + len(rows.bad)
        tally.left_out += rows.left_out
        tally.compute += answers.compute
        lines = {number: Rejection(READING, bad.reason) for number, bad in rows.bad.items()}
        texts: dict[int, Any] = {number: bad.text for number, bad in rows.bad.items()}
        for row, rejection in rejected.items():
            number = rows.numbers[row]
            lines[number] = rejection
            texts[number] = {name: _readable(column[row]) for name, column in rows.columns.items()}
        return [_line(_file(piece, number), number, lines[number], texts[number]) for number in sorted(lines)]


class _Tally:
    """What became of the rows so far."""

    def __init__(self) -> None:
        self.read = self.written = self.rejected = self.left_out = 0
        self.compute = 0.0


def _line(file: str, number: int, rejection: Rejection, values: Mapping[str, Any] | str) -> bytes:
    """A row that was set aside: where it stands, the step, the reason, and its values or its text."""
    line = {"file": file, "row": number, "step": rejection.step, "reason": rejection.reason, "values": values}
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _file(piece: Piece, number: int) -> str:
    """The file that a row stands in."""
    return piece.files[number - piece.start] if piece.files else piece.file


def _readable(value: Any) -> Any:
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return value if len(value) <= SHORT else f"{value[:SHORT]}… ({len(value)} characters)"
    if isinstance(value, list) and len(value) > SHORT // 10:
        return [*value[: SHORT // 10], f"… ({len(value)})"]
    return value


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
