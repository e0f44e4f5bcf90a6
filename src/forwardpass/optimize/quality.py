"""How good a candidate's answers are, beside its parent's: score, drop with its interval, agreement, worst rows.

In flow held-out rows and the answers of both models, out flows a ``Quality``. Measures no time and judges nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardpass.errors import InvalidInput
from forwardpass.optimize.bootstrap import Interval, paired_drop, score_interval
from forwardpass.optimize.heldout import LabelledRows
from forwardpass.optimize.metric import Metric, Pair
from forwardpass.optimize.results import Quality, WorstRow
from forwardpass.types import Array, Columns

WORST = 5  # rows that a report shows of each candidate
_SHOWN = 80  # characters of a row's inputs


class Judge:
    """Compares candidates with one parent on one set of rows. ``score`` is the parent's."""

    def __init__(self, rows: LabelledRows, metric: Metric, output: str, parent: Columns) -> None:
        self.metric = metric
        self.output = output
        self.rows = rows
        self._parent: Pair = metric.pair(rows.labels, parent[output])
        self._losses = metric.losses(self._parent)

    def score(self) -> Interval:
        """The parent's score with its interval."""
        return score_interval(self.metric, self._parent)

    def quality(self, outputs: Columns) -> Quality:
        """Raises ``InvalidInput`` where the candidate's output is none that the metric can judge."""
        if self.output not in outputs:
            raise InvalidInput(f"it has no output {self.output!r}")
        pair = self.metric.pair(self.rows.labels, outputs[self.output])
        score = self.metric.score(pair)
        drop = paired_drop(self.metric, self._parent, pair)
        agreement = self.metric.agreement(self._parent[1], pair[1])
        return Quality(score if np.isfinite(score) else None, drop, agreement, self._worst(pair))

    def _worst(self, pair: Pair) -> tuple[WorstRow, ...]:
        """Rows on which the candidate is more wrong than its parent, those that lost most first."""
        lost = self.metric.losses(pair) - self._losses
        order = np.argsort(-np.where(np.isnan(lost), np.inf, lost), kind="stable")[:WORST].tolist()
        return tuple(self._row(at, pair[1], float(lost[at])) for at in order if not lost[at] <= 0)

    def _row(self, at: int, answers: Array, loss: float) -> WorstRow:
        return WorstRow(
            row=int(self.rows.numbers[at]),
            label=_words(self.rows.labels[at]),
            parent=_words(self._parent[1][at]),
            candidate=_words(answers[at]),
            loss=loss if np.isfinite(loss) else 0.0,
            input=_short(", ".join(f"{name}: {_words(column[at])}" for name, column in self.rows.columns.items())),
        )


def _words(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, np.ndarray):
        return f"[{', '.join(_words(item) for item in value.ravel()[:8])}{', …' if value.size > 8 else ''}]"
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return " ".join(str(value).replace("\0", "no number").split())


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
