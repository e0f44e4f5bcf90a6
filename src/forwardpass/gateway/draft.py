"""A cascade's answer while it is made: the first member's rows, into which others put theirs.

Every row keeps its place, whoever answers it. Knows no members and no budget.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from forwardpass.gateway.agreement import CONFIDENCE, MEMBER, PROVISIONAL, Agreement
from forwardpass.types import Array, Columns


class Why(StrEnum):
    """Why a row is provisional: the next model should have been asked, and did not answer."""

    SHARE = "share"  # as many rows as may be were escalated of late
    MONEY = "money"  # the day's is spent
    BREAKER = "breaker"  # it failed again and again
    PRIVACY = "privacy"  # no row may leave this machine
    NOT_READY = "not_ready"
    OVERLOADED = "overloaded"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"  # it does not take these rows
    FAILED = "failed"
    DIFFERS = "differs"  # its outputs do not fit those of the others


OUT_OF_REACH = frozenset((Why.BREAKER, Why.NOT_READY, Why.OVERLOADED, Why.TIMED_OUT, Why.FAILED))  # for now


class Draft:
    """``confidence`` is [rows]."""

    def __init__(self, agreement: Agreement, outputs: Columns, confidence: Array, member: str) -> None:
        self.rows = len(confidence)
        self.confidence = confidence.astype(np.float32)
        self.why: list[Why | None] = [None] * self.rows
        self._columns = {spec.name: outputs[spec.name] for spec in agreement.outputs}
        self._own: set[str] = set()  # columns that are copies by now
        self._member = np.full(self.rows, member, object)

    @property
    def provisional(self) -> Array:
        return np.array([why is not None for why in self.why], bool)

    @property
    def members(self) -> Array:
        return self._member

    def fits(self, outputs: Columns) -> bool:
        """Whether the rows of an answer are of the shape that is here."""
        return all(outputs[name].shape[1:] == array.shape[1:] for name, array in self._columns.items())

    def put(self, rows: Array, outputs: Columns, confidence: Array, member: str) -> None:
        """A member's answer for these rows, in their order."""
        for name, array in self._columns.items():
            if name not in self._own:
                self._columns[name] = array.copy()  # what a worker or a body holds is not to be written to
                self._own.add(name)
            self._columns[name][rows] = outputs[name]
        self.confidence[rows] = confidence
        self._member[rows] = member

    def keep(self, rows: Array, why: Why) -> None:
        """These rows keep the answer they have, provisionally."""
        for row in rows.tolist():
            self.why[row] = why

    def columns(self) -> Columns:
        added = {MEMBER: self._member, CONFIDENCE: self.confidence, PROVISIONAL: self.provisional}
        return {**self._columns, **added}
