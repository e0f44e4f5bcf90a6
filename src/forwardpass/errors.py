"""Everything that can go wrong, as one tree by kind.

    ForwardpassError
    ├── InvalidInput         the caller's rows or body are wrong
    │   └── InvalidRows      some rows of a batch are wrong; says which
    ├── TooLarge             the body, or the number of rows, is over a limit
    ├── InvalidModel         a model folder, artifact or model.yaml cannot be used
    ├── InvalidSettings      a setting of the program cannot be used
    ├── NotFound             no such model, version or page
    ├── NotReady             it exists, but cannot answer now (loading, stopping, failed to load)
    ├── Overloaded           the queue is full, or the deadline cannot be met
    ├── QuotaExceeded        this caller has used up what it may use
    ├── TimedOut             the deadline passed
    ├── Cancelled            the caller left before the answer
    └── BackendFailed        the artifact, a step or the worker that runs them failed

No protocol in here: each door has one table from kind to status. A message says what is wrong,
with which value, and what to do about it; it never holds a traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Mapping
from typing import ClassVar

from forwardpass.types import Outcome


class ForwardpassError(Exception):
    """Root of the tree. ``outcome`` is the kind, as records and metrics name it.

    ``step`` is the pipeline's step that raised it, or "".
    """

    outcome: ClassVar[Outcome] = Outcome.INTERNAL
    step = ""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class InvalidInput(ForwardpassError):
    outcome = Outcome.INVALID_INPUT


class InvalidRows(InvalidInput):
    """Some rows of a batch are wrong; the others are not touched by that.

    ``rows`` maps the row's index within the batch to what is wrong with it.
    """

    def __init__(self, rows: Mapping[int, str]) -> None:
        self.rows = dict(rows)
        first = min(self.rows)
        more = f" (and {len(self.rows) - 1} more rows)" if len(self.rows) > 1 else ""
        super().__init__(f"row {first}: {self.rows[first]}{more}")


class TooLarge(InvalidInput):
    outcome = Outcome.TOO_LARGE


class InvalidModel(ForwardpassError):
    outcome = Outcome.BACKEND_FAILED


class InvalidSettings(ForwardpassError):
    pass


class NotFound(ForwardpassError):
    outcome = Outcome.NOT_FOUND


class NotReady(ForwardpassError):
    outcome = Outcome.NOT_READY


class Overloaded(ForwardpassError):
    """``retry_after`` is the number of seconds after which trying again makes sense."""

    outcome = Outcome.OVERLOADED

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(Overloaded):
    outcome = Outcome.QUOTA_EXCEEDED


class TimedOut(ForwardpassError):
    outcome = Outcome.TIMED_OUT


class Cancelled(ForwardpassError):
    outcome = Outcome.CANCELLED


class BackendFailed(ForwardpassError):
    outcome = Outcome.BACKEND_FAILED


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for a misspelt name, else the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(names)}." if names else ""


def words(error: OSError) -> str:
    """What the system refused, in its own words; event loops and libraries word the same error differently."""
    numbered = error.errno in errno.errorcode and type(error).__module__ != "ssl"  # whose numbers mean other things
    if error.errno is not None and numbered:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__
