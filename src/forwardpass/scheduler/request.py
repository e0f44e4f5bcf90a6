"""One caller's rows on their way to an answer.

A door subclasses ``Request`` and says how an answer or an error is written; nothing else is
allocated per request, no task and no future. A plain class with defaults on the class: only what
differs from them is stored per request, which is what the hot path pays for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from forwardpass.errors import ForwardpassError
from forwardpass.types import Columns, Outcome

if TYPE_CHECKING:
    from forwardpass.scheduler.batch import Batch
    from forwardpass.scheduler.parts import Whole


class Request(ABC):
    """Rows to predict.

    ``arrived`` and ``deadline`` are readings of the scheduler's clock (seconds), ``nbytes`` what
    the rows hold in memory. ``key`` is equal for requests whose rows may be stacked (None: all).
    ``succeed`` or ``fail`` is called once; after that ``done`` is true and ``outcome`` says how it
    ended.
    """

    arrived: float
    deadline: float
    columns: Columns
    rows: int
    nbytes: int = 0
    key: Any = None

    background: bool = False  # runs only while no other waits
    id: str = ""
    door: str = "local"
    bytes_in: int = 0
    bytes_out: int = 0

    length: int = 0  # of its longest row, where the cost of a row depends on that of its batch
    passed: int = 0  # rows that came later and left before it

    waiting: bool = False
    done: bool = False
    deaths: int = 0  # workers that died while they ran this request
    reported: bool = True  # false for parts of a larger request, which is reported as one
    outcome: Outcome | None = None
    started: float | None = None
    batch: Batch | None = None
    whole: Whole | None = None  # where it runs in parts

    @abstractmethod
    def succeed(self, outputs: Columns) -> None:
        """Answer with the outputs of exactly these rows, in their order."""

    @abstractmethod
    def fail(self, error: ForwardpassError) -> None:
        """Answer with an error."""
