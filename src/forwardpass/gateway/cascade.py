"""A cascade: the first member answers, and what it is not sure of goes to the next one.

    rows ─► first member ─► sure: its answer
                        └─► unsure (escalation) ─► next member, in time: its answer
                                              └─► else the first one's, marked provisional

Each request is a batch of its own here; the members' queues do the batching. What only goes wrong further on never
fails a request. Knows no door, and not where members lie.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import numpy as np

from forwardpass.config import EscalationConfig
from forwardpass.engine.messages import ReadyHead
from forwardpass.errors import ForwardpassError, InvalidModel, NotFound, NotReady, Overloaded
from forwardpass.gateway.agreement import Agreement, agree
from forwardpass.gateway.asking import RowsOf, ask
from forwardpass.gateway.audit import Audit
from forwardpass.gateway.breaker import BreakerState
from forwardpass.gateway.budget import EscalationBudget
from forwardpass.gateway.draft import OUT_OF_REACH, Draft, Why
from forwardpass.gateway.escalation import Escalation, Kept
from forwardpass.gateway.member import Member
from forwardpass.gateway.passing import Answered, PassingReplicas
from forwardpass.monitoring.metrics import Gauge
from forwardpass.scheduler import Batch, Request
from forwardpass.server.composed import Composition, Defer, PutOff
from forwardpass.server.served import State
from forwardpass.types import Array, Columns, ModelInfo

AT_ONCE = 512  # requests that may be under way
LOOK = 0.05  # seconds between looks at whether the members can be asked


class Cascade:
    """``clock`` is that of deadlines, ``wall_clock`` that of days. ``defer`` takes rows to be asked about later."""

    restarts = 0

    def __init__(
        self,
        composition: Composition,
        config: EscalationConfig,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        chance: random.Random,
        defer: Defer | None = None,
    ) -> None:
        self.members = composition.files.config.cascade
        self.agreement: Agreement | None = None
        self._composition = composition
        self._config = config
        self._clock = clock
        self._defer = defer if config.deferred else None
        self._budget = EscalationBudget(config, wall_clock)
        self._escalation = Escalation(config, composition.dataplane, self._budget, clock)
        self._audit = Audit(config.audit, chance)
        last = self.members[-1]
        self._members = [Member(name, composition.member, clock, last=name == last) for name in self.members]
        self._replicas = PassingReplicas(AT_ONCE, self._answer)
        self._tasks: set[asyncio.Task[None]] = set()
        self._first_ready: float | None = None  # since when
        self._rows = 0
        self._answered: Counter[str] = Counter()  # rows by member
        self._provisional: Counter[Why] = Counter()

    @property
    def count(self) -> int:
        return self._replicas.count

    @property
    def ready(self) -> int:
        return self._replicas.ready

    def start(self) -> None:
        self._begin(self._watch())

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._replicas.stop()

    # Becoming ready, and ceasing to be

    async def _watch(self) -> None:
        while True:
            if self._composition.served.state is not State.UNLOADING:
                self._look()
            await asyncio.sleep(LOOK)

    def _look(self) -> None:
        for member in self._members:
            member.look()
        try:
            self._require_no_circle()
            if self.agreement is None:
                self._open()
            else:
                self._members[0].require_fit(self.agreement)
                self._composition.answers()
        except (NotFound, NotReady) as error:
            if not (self.agreement is None and self._members[0].loading):
                self._composition.waits(f"its first model cannot answer: {error.message}", self._members[0].away)
        except InvalidModel as error:
            self._composition.waits(error.message, False)

    def _open(self) -> None:
        """Raises ``NotFound``, ``NotReady`` or ``InvalidModel``; does nothing while a member should be waited for."""
        first = self._members[0].served()
        if self._first_ready is None:
            self._first_ready = self._clock()
        if any(self._worth_waiting(member, self._first_ready) for member in self._members[1:]):
            return
        found = {member.name: member.found() for member in self._members}
        known = {name: served.signature for name, served in found.items() if served is not None and served.ready}
        files = self._composition.files
        agreement = agree(known, self.members[-1], self._config.confidence, files.config.outputs)
        if self._config.audit and not agreement.comparable():
            raise InvalidModel("escalation: audit: the members share no output by which two answers could be compared")
        info = ModelInfo(
            files.config.description or first.info.description,
            "cascade",
            " → ".join(self.members),
            sample=files.sample() or first.info.sample,
            tags=files.config.tags,
        )
        self.agreement = agreement
        self._replicas.attach(self._composition.opened(ReadyHead(agreement.signature, info), False))

    def _worth_waiting(self, member: Member, since: float) -> bool:
        """A member that loads here will come or fail; one that lies elsewhere may stay away for long."""
        served = member.found()
        if served is None or not member.loading:
            return False
        return served.composed is None or self._clock() - since < self._config.timeout

    def _require_no_circle(self) -> None:
        """Raises ``InvalidModel`` where it would have to ask itself."""
        own, seen, ahead = self._composition.served.name, set[str](), list(self.members)
        while ahead:
            name = ahead.pop()
            if name == own:
                raise InvalidModel("cascade: it is a member of itself, or of one of its members")
            versions = {} if name in seen else self._composition.dataplane.models.get(name, {})
            seen.add(name)
            ahead += [member for one in versions.values() if one.composed for member in one.composed.members]

    # Requests

    async def _answer(self, batch: Batch) -> Answered:
        (request,) = batch.requests
        return await self._decide(request), {}

    async def _decide(self, request: Request) -> Columns:
        """All rows answered, by the first member or a later one. Raises what the first one raises."""
        agreement, first = self.agreement, self._members[0]
        assert agreement is not None
        served = first.require_fit(agreement)
        whole = RowsOf(request, None, request.deadline, background=request.background)
        outputs = await ask(self._composition.dataplane, served, whole)
        sure = self._escalation.sure(first, outputs, request.rows)
        draft = Draft(agreement, outputs, sure, first.name)
        unsure = np.flatnonzero(sure < self._config.threshold)
        begins = True
        for member in self._members[1:]:
            if begins or len(unsure):
                unsure = await self._escalation.run(member, agreement, request, draft, unsure, begins=begins)
            begins = False
        self._count(draft)
        self._begin_audit(request, draft, np.flatnonzero(sure >= self._config.threshold))
        self._put_off(request, draft)
        return draft.columns()

    def _count(self, draft: Draft) -> None:
        self._rows += draft.rows
        self._answered.update(draft.members.tolist())
        self._provisional.update(why for why in draft.why if why is not None)

    # After the answer

    def _begin_audit(self, request: Request, draft: Draft, sure_rows: Array) -> None:
        drawn = self._audit.draw(sure_rows)
        if not len(drawn):
            return
        paid = self._budget.pay(len(drawn))
        self._audit.skipped += len(drawn) - paid
        if paid:
            rows = drawn[:paid]
            deadline = self._clock() + self._composition.served.limits.timeout
            some = RowsOf(request, rows, deadline, background=True)
            self._audit.waiting += paid
            self._begin(self._compare(some, {name: array[rows] for name, array in draft.columns().items()}))

    async def _compare(self, some: RowsOf, mine: Columns) -> None:
        """Ask the next member about rows that were answered already, and count where it says otherwise."""
        assert self.agreement is not None
        try:
            served = self._escalation.askable(self._members[1], self.agreement)
            theirs = await ask(self._composition.dataplane, served, some)
            self._audit.heard(self.agreement.differs(mine, theirs))
        except (Kept, ForwardpassError) as error:
            self._audit.skipped += some.rows
            if isinstance(error, Kept | NotReady | Overloaded):
                self._budget.refund(some.rows)
        finally:
            self._audit.waiting -= some.rows

    def _put_off(self, request: Request, draft: Draft) -> None:
        """Rows that nobody could be asked about are handed on, to be asked about later.

        Not those that the budget keeps here: it would be spent all the same.
        """
        if self._defer is None:
            return
        rows = np.flatnonzero([why in OUT_OF_REACH for why in draft.why])
        if len(rows):
            columns = {name: array[rows] for name, array in request.columns.items()}
            answers = {name: array[rows] for name, array in draft.columns().items()}
            self._defer(PutOff(self._composition.served, request, rows, columns, answers))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What is told of it

    def statistics(self) -> dict[str, Any]:
        return {
            "kind": "cascade",
            "rows": self._rows,
            "escalated": self._escalation.rows,
            "answered": {name: self._answered[name] for name in self.members},
            "provisional": {str(why): count for why, count in self._provisional.items()},
            "breakers": {member.name: str(member.breaker.state) for member in self._members[1:]},
            "out_of_reach": {
                member.name: why for member in self._members if not member.withheld and (why := member.why_not())
            },
            "spent_today": self._budget.spent,
            "audit": self._audit.statistics(),
        }

    def gauges(self, labels: Mapping[str, str]) -> Iterable[Gauge]:
        own = dict(labels)
        yield Gauge("cascade_rows", "Rows answered since load", own, self._rows)
        yield Gauge("cascade_escalated_rows", "Rows that a later member was asked about", own, self._escalation.rows)
        yield Gauge("cascade_spent", "What the rows escalated today have cost", own, self._budget.spent)
        for name in self.members:
            yield Gauge("cascade_answered_rows", "Rows by who answered", {**own, "member": name}, self._answered[name])
        for why in Why:
            labelled = {**own, "reason": str(why)}
            text = "Rows that keep an unsure answer, by why"
            yield Gauge("cascade_provisional_rows", text, labelled, self._provisional[why])
        for member in self._members[1:]:
            shut = member.breaker.state is not BreakerState.CLOSED
            labelled = {**own, "member": member.name}
            yield Gauge("cascade_breaker_open", "1 while the member is left alone", labelled, float(shut))
        yield from _audited(self._audit.statistics(), own)


def _audited(audit: Mapping[str, Any], labels: dict[str, str]) -> Iterable[Gauge]:
    yield Gauge("cascade_audited_rows", "Sure rows that were asked about too", labels, audit["asked"])
    yield Gauge("cascade_audit_skipped_rows", "Such rows that were not answered", labels, audit["skipped"])
    if audit["asked"]:
        low, high = audit["interval"]
        for bound, value in (("low", low), ("estimate", audit["disagreement"]), ("high", high)):
            labelled = {**labels, "bound": bound}
            yield Gauge("cascade_disagreement", "Share of sure rows answered otherwise, 95 %", labelled, value)
