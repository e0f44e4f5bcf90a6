"""Whether a converted model answers as the original does, row by row, and where it does not.

In flow the original, the artifact and rows; out flows a ``Comparison``. A label that differs where the original's two
best probabilities are equal is a tie: either answer is right. A row whose difference vanishes when the original, too,
is given the row in float32 is told as rounding. Knows no library that trains and writes no folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forwardpass.backends import create_backend
from forwardpass.errors import InvalidModel
from forwardpass.optimize.convert.base import LABEL, PROBABILITIES, Trained
from forwardpass.types import Array, Columns

TOLERANCE = 1e-4  # of probabilities; of other numbers relative to their size, where that is over 1
_TIE = 1e-6
_MOST_ROWS = 5  # told of


@dataclass(frozen=True)
class WorstRow:
    """One row where the answers lie apart: ``row`` counts from 0; ``rounding``: only by the input's float32."""

    row: int
    output: str
    original: float | str
    converted: float | str
    rounding: bool


@dataclass(frozen=True)
class Comparison:
    """``largest`` is the largest absolute difference by output; ``beyond`` counts rows over the tolerance.

    ``wrong_labels`` leaves out ``ties``. ``equal_labels`` is a share from 0 to 1, None where there are no labels.
    """

    rows: int
    source: str
    largest: dict[str, float]
    beyond: int
    wrong_labels: int
    ties: int
    equal_labels: float | None
    rounded: int
    worst: tuple[WorstRow, ...]

    def require(self, wrong: int) -> None:
        """Raise ``InvalidModel`` where more than ``wrong`` rows differ, in their label or beyond the tolerance."""
        if self.wrong_labels <= wrong and self.beyond <= wrong:
            return
        parts = [f"{self.wrong_labels} labels differ"] if self.wrong_labels > wrong else []
        if self.beyond > wrong:
            most = max(self.largest.values())
            parts.append(f"{self.beyond} rows differ by more than {TOLERANCE:g} (up to {most:.2g})")
        if self.rounded:
            parts.append(f"{self.rounded} of these only through rounding their inputs to float32")
        rows = ", ".join(str(item.row) for item in self.worst)
        raise InvalidModel(
            f"the converted model answers differently: of {self.rows} rows {', '.join(parts)} "
            f"(worst rows: {rows}); keep the original with --native, or allow some with --tolerance"
        )


def compare(trained: Trained, artifact: Path, columns: Columns, source: str) -> Comparison:
    """Both models on the same rows; the converted one gets them in the types that it takes."""
    backend = create_backend(artifact, threads=1)
    try:
        rounded = {
            spec.name: np.ascontiguousarray(columns[spec.name], dtype=spec.dtype.numpy) for spec in backend.inputs
        }
        answers = [trained.predict(columns), backend.run(rounded), trained.predict(rounded)]
        if not backend.batched:  # the whole request counts as one row
            answers = [{name: array[np.newaxis] for name, array in answer.items()} for answer in answers]
    finally:
        backend.close()
    original, converted, original_rounded = answers
    return _compare(original, converted, original_rounded, source)


def _compare(original: Columns, converted: Columns, original_rounded: Columns, source: str) -> Comparison:
    if missing := original.keys() - converted.keys():
        raise InvalidModel(f"the converted model has no output {sorted(missing)[0]!r}; it has {sorted(converted)}")
    rows = len(next(iter(original.values())))
    wrong, ties, beyond = (np.zeros(rows, bool) for _ in range(3))
    rounding = np.ones(rows, bool)
    largest: dict[str, float] = {}
    distance = np.zeros(rows)
    for name, mine in original.items():
        if mine.shape != converted[name].shape:
            raise InvalidModel(
                f"output {name!r} has shape {list(converted[name].shape)}, the original's {list(mine.shape)}"
            )
        far, apart = _differences(name, mine, converted[name])
        rounding &= ~_differences(name, original_rounded[name], converted[name])[0]
        if name == LABEL:
            tied = far & _is_tie(original.get(PROBABILITIES), rows)
            ties, wrong = ties | tied, wrong | (far & ~tied)
        else:
            beyond |= far
            largest[name] = float(apart.max(initial=0.0))
            distance = np.maximum(distance, apart)
    bad = wrong | beyond
    worst = [
        _worst(int(row), original, converted, bool(wrong[row]), bool(rounding[row]))
        for row in np.lexsort((-distance, ~bad, ~wrong))[: min(_MOST_ROWS, int(bad.sum()))]
    ]
    share = float(1 - (wrong | ties).mean()) if LABEL in original and rows else None
    return Comparison(
        *(rows, source, largest, int(beyond.sum()), int(wrong.sum()), int(ties.sum()), share),
        *(int((bad & rounding).sum()), tuple(worst)),
    )


def _differences(name: str, mine: Array, other: Array) -> tuple[Array, Array]:
    """Per row whether the answers are too far apart, and how far at most."""
    rows = len(mine)
    if name == LABEL or mine.dtype.kind not in "fiub":
        return np.asarray((mine != other).reshape(rows, -1).any(axis=1)), np.zeros(rows)
    a, b = mine.astype(np.float64).reshape(rows, -1), other.astype(np.float64).reshape(rows, -1)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf))
        allowed = TOLERANCE * np.maximum(1.0, np.abs(np.nan_to_num(a, posinf=1.0, neginf=1.0)))
    return np.asarray((apart > allowed).any(axis=1)), np.asarray(apart.max(axis=1, initial=0.0))


def _is_tie(probabilities: Array | None, rows: int) -> Array:
    if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] < 2:
        return np.zeros(rows, bool)
    best = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] <= _TIE)


def _worst(row: int, original: Columns, converted: Columns, wrong_label: bool, rounding: bool) -> WorstRow:
    if wrong_label:
        return WorstRow(row, LABEL, str(original[LABEL][row]), str(converted[LABEL][row]), rounding)
    found = [(np.abs(mine[row] - converted[name][row]).max(), name) for name, mine in original.items() if name != LABEL]
    name = max(found)[1]
    mine, other = np.ravel(original[name][row]), np.ravel(converted[name][row])
    at = int(np.argmax(np.abs(mine - other)))
    return WorstRow(row, name, float(mine[at]), float(other[at]), rounding)
