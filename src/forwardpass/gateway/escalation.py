"""Asking a later member of a cascade about the rows that an earlier one is not sure of.

    unsure rows ─► share, money (budget) ─► is it there, does it fit, is its breaker shut? ─► ask, in time ─► its rows

Whatever goes wrong on the way only means that the rows keep the answers they have, provisionally, and why. Knows no
queue of the cascade itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from forwardpass.config import EscalationConfig
from forwardpass.errors import ForwardpassError, InvalidInput, NotFound, NotReady, Overloaded, TimedOut
from forwardpass.gateway.agreement import Agreement
from forwardpass.gateway.asking import RowsOf, ask
from forwardpass.gateway.budget import EscalationBudget
from forwardpass.gateway.draft import Draft, Why
from forwardpass.gateway.member import Member
from forwardpass.pipeline.confidence import confidence, flaw
from forwardpass.scheduler import Request
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.served import ServedModel
from forwardpass.types import Array, Columns

log = logging.getLogger(__name__)

RESERVE = 0.04  # seconds before a request's deadline at which its own answer must go out


class Kept(Exception):
    """The rows keep the answers they have."""

    def __init__(self, why: Why) -> None:
        super().__init__(str(why))
        self.why = why


class Escalation:
    """``clock`` is that of deadlines."""

    def __init__(
        self, config: EscalationConfig, dataplane: DataPlane, budget: EscalationBudget, clock: Callable[[], float]
    ) -> None:
        self.rows = 0  # that were asked about
        self._config = config
        self._dataplane = dataplane
        self._budget = budget
        self._clock = clock
        self._flawed = False  # it was said that the confidence output holds no probabilities

    async def run(
        self, member: Member, agreement: Agreement, request: Request, draft: Draft, unsure: Array, *, begins: bool
    ) -> Array:
        """Ask a member about the rows that may be asked about; returns those of which it is not sure either.

        ``begins``: they are at the first member still, so they count against the share.
        """
        asked = self._allowed(draft, unsure, begins=begins)
        if not len(asked):
            return asked
        try:
            outputs = await self._in_time(member, agreement, request, draft, asked)
        except Kept as kept:
            draft.keep(asked, kept.why)
            return asked[:0]
        sure = self.sure(member, outputs, len(asked))
        draft.put(asked, outputs, sure, member.name)
        return asked[:0] if member.last else asked[sure < self._config.threshold]

    def askable(self, member: Member, agreement: Agreement) -> ServedModel:
        """The version to ask. Raises ``Kept``."""
        if member.withheld:
            raise Kept(Why.PRIVACY)
        try:
            served = member.served()
        except (NotFound, NotReady):
            raise Kept(Why.NOT_READY) from None
        if member.unfit(served, agreement):
            raise Kept(Why.DIFFERS)
        if not member.breaker.allows():
            raise Kept(Why.BREAKER)
        return served

    def sure(self, member: Member, outputs: Columns, rows: int) -> Array:
        """How sure each of a member's answers is. Shape: [rows]; 0 where that cannot be said, NaN of the last one."""
        unknown = np.full(rows, np.nan if member.last else 0.0)
        values = outputs.get(self._config.confidence)
        if rows == 0 or values is None:
            return unknown
        values = values if values.dtype.kind == "f" else values.astype(np.float32)  # BF16
        why = flaw(values)
        if why is None:  # the temperature was found for those that come before the last
            return confidence(values, 1.0 if member.last else self._config.temperature)
        if not self._flawed:
            self._flawed = True
            log.error("%s: output %r does not say how sure it is: %s", member.name, self._config.confidence, why)
        return unknown

    def _allowed(self, draft: Draft, unsure: Array, *, begins: bool) -> Array:
        """The rows that the budget is enough for, the least sure first; the others keep their answers."""
        rows = unsure[np.argsort(draft.confidence[unsure], kind="stable")]
        if begins:
            granted = self._budget.share(draft.rows, len(rows))
            draft.keep(rows[granted:], Why.SHARE)
            rows = rows[:granted]
        paid = self._budget.pay(len(rows))
        draft.keep(rows[paid:], Why.MONEY)
        return np.sort(rows[:paid])

    async def _in_time(
        self, member: Member, agreement: Agreement, request: Request, draft: Draft, rows: Array
    ) -> Columns:
        """The member's answer. Raises ``Kept``, having given back the money where nothing was asked."""
        now = self._clock()
        seconds = min(self._config.timeout, request.deadline - RESERVE - now)
        try:
            served = self.askable(member, agreement)
            if seconds <= 0:
                raise Kept(Why.TIMED_OUT)
        except Kept:
            self._budget.refund(len(rows))
            raise
        self.rows += len(rows)
        some = RowsOf(request, rows, now + seconds, background=request.background)
        outputs = await self._guarded(member, served, some, seconds)
        if not draft.fits(outputs):
            raise Kept(Why.DIFFERS)
        return outputs

    async def _guarded(self, member: Member, served: ServedModel, rows: RowsOf, seconds: float) -> Columns:
        """Ask, and let the member's breaker hear how it ended. Raises ``Kept``."""
        breaker = member.breaker
        breaker.begin()
        judge = breaker.abandoned
        try:
            async with asyncio.timeout(seconds):
                outputs = await ask(self._dataplane, served, rows)
            judge = breaker.succeeded
        except (TimeoutError, TimedOut):
            if seconds >= self._config.timeout:  # else it was the request that had no more time
                judge = breaker.failed
            raise Kept(Why.TIMED_OUT) from None
        except ForwardpassError as error:
            why = reason(error)
            judge = {Why.REFUSED: breaker.succeeded, Why.FAILED: breaker.failed}.get(why, breaker.abandoned)
            if why in (Why.NOT_READY, Why.OVERLOADED):
                self._budget.refund(rows.rows)
            raise Kept(why) from None
        finally:
            judge()
        return outputs


def reason(error: ForwardpassError) -> Why:
    """Why rows are provisional, by what asking about them raised."""
    kinds = {NotReady: Why.NOT_READY, NotFound: Why.NOT_READY, Overloaded: Why.OVERLOADED, InvalidInput: Why.REFUSED}
    return next((why for kind, why in kinds.items() if isinstance(error, kind)), Why.FAILED)
