"""One member of a cascade: which model answers for its name now, and whether it may be asked.

Looked up at every request, so that a member can be loaded again, come and go. Asks it nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from forwardpass.errors import NotFound, NotReady
from forwardpass.gateway.agreement import Agreement
from forwardpass.gateway.breaker import Breaker
from forwardpass.gateway.remote import Remote
from forwardpass.server.served import ServedModel, State

log = logging.getLogger(__name__)


class Member:
    """``find`` gives the version that a name means now."""

    def __init__(
        self, name: str, find: Callable[[str], ServedModel], clock: Callable[[], float], *, last: bool
    ) -> None:
        self.name = name
        self.last = last
        self.breaker = Breaker(clock)
        self._find = find
        self._there = False  # when it was last looked at
        self._checked: ServedModel | None = None
        self._unfit = ""

    def look(self) -> None:
        """Whether it can be asked now; once it can be again, its breaker need not wait longer."""
        there = not self.why_not()
        if there and not self._there:
            self.breaker.probe_now()
        self._there = there

    @property
    def withheld(self) -> bool:
        """Whether no row may be sent to where it lies."""
        served = self.found()
        return served is not None and isinstance(served.composed, Remote) and bool(served.composed.withheld)

    @property
    def loading(self) -> bool:
        served = self.found()
        return served is not None and served.state is State.LOADING

    @property
    def away(self) -> bool:
        """Whether it cannot answer only because servers elsewhere are out of reach."""
        served = self.found()
        return served is not None and not served.ready and served.away

    def why_not(self) -> str:
        """Why nobody can ask it now, or ""."""
        try:
            self.served()
        except (NotFound, NotReady) as error:
            return error.message
        return ""

    def found(self) -> ServedModel | None:
        try:
            return self._find(self.name)
        except NotFound:
            return None

    def served(self) -> ServedModel:
        """Raises ``NotFound`` or ``NotReady``."""
        served = self._find(self.name)
        served.require_ready()
        return served

    def unfit(self, served: ServedModel, agreement: Agreement) -> str:
        """Why this version cannot take part, or ""; worked out, and logged, once for each."""
        if served is not self._checked:
            self._unfit = agreement.why_not(self.name, served.signature, last=self.last)
            self._checked = served
            if self._unfit:
                log.error("it is not asked: %s", self._unfit)
        return self._unfit

    def require_fit(self, agreement: Agreement) -> ServedModel:
        """Raises ``NotFound``, or ``NotReady`` also where its tensors are others than when the cascade was loaded."""
        served = self.served()
        if why := self.unfit(served, agreement):
            raise NotReady(f"{why}; load the cascade again")
        return served
