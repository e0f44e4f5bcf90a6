"""When a batch is tried again: only where that is safe, and only as often as a budget allows.

Trying again doubles the load just when there is too much of it, so of the batches of late only a share may be such
tries. Safe is what no server can have answered: predictions change nothing, but a batch that has taken two servers
down is not given to a third. Knows no server.
"""

from __future__ import annotations

from forwardpass.errors import ForwardpassError

OF_LATE = 100  # batches whose share of tries may be spent at once
MAX_DEATHS = 2  # servers that a batch may have taken down


class RetryBudget:
    """Each batch pays in ``share`` of a try, up to that of ``OF_LATE`` batches; each try again takes a whole one."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._most = share * OF_LATE
        self._left = self._most

    def batch(self) -> None:
        self._left = min(self._most, self._left + self._share)

    def take(self) -> bool:
        """Whether one more may be tried again; if so, it is spent."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Failed(Exception):
    """A try at a server that failed.

    ``again``: another may succeed, and nothing was answered yet; ``died``: the server may have died of the batch;
    ``blamed``: it counts against the server.
    """

    def __init__(
        self, error: ForwardpassError, *, again: bool = False, died: bool = False, blamed: bool = False
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.again = again
        self.died = died
        self.blamed = blamed
