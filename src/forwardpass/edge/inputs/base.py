"""The contract of an input, what it counts, and where malformed items go.

An input hands rows to ``predict`` and learns what became of them. It knows no model: a row that the
model refuses comes back as an answer with an error, like one that the input itself could not read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from forwardpass.edge.prediction import Prediction
from forwardpass.errors import ForwardpassError

log = logging.getLogger("forwardpass.edge")
REMEMBERED = 20  # failures that status can show


class Predict(Protocol):
    """Asks the model. ``id`` is given where it is the same when the item is asked about again: then it counts once."""

    async def __call__(self, rows: list[Any], source: str, id: str | None = None) -> Prediction: ...


class Input(Protocol):
    """One way in besides HTTP.

    ``name`` is how status calls it, ``problem`` what keeps it from working right now ("" for
    nothing). ``counts`` only grow: ``read`` items, of which each ends as ``answered``, ``failed``
    (malformed, or refused by the model) or ``dropped``, but for those under way. ``failures`` are the
    latest items that failed, with the reason. ``ends_agent``: when ``run`` returns, the agent is done.
    """

    name: str
    counts: dict[str, int]
    failures: deque[Failure]
    problem: str
    ends_agent: bool

    async def run(self, predict: Predict) -> None:
        """Hand over what comes in until cancelled, or until the source has ended for good.

        Reconnects by itself and never raises for what the outside does. Items of one source are
        handed over one after another, in their order.
        """

    def stop(self) -> None:
        """Take in nothing new: ``run`` returns once what was read is answered."""


@dataclass(frozen=True)
class Failure:
    """One item that could not be answered: where it came from, and why."""

    source: str
    reason: str


@dataclass(eq=False)
class InputBase:
    """What all inputs have; see ``Input``. Kinds look at ``stopping``, or wait for it."""

    name: str
    counts: dict[str, int] = field(default_factory=lambda: {"read": 0, "answered": 0, "failed": 0, "dropped": 0})
    failures: deque[Failure] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    problem: str = ""
    ends_agent: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        self.stopping.set()

    async def pause(self, seconds: float) -> None:
        """So long, or until this is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    def fail(self, source: str, reason: str) -> None:
        self.count("failed")
        self.failures.append(Failure(source, reason))

    async def ask(self, predict: Predict, rows: list[Any], source: str, id: str | None = None) -> Prediction | str:
        """The prediction, counted as answered; or why there is none, counted as failed."""
        try:
            prediction = await predict(rows, source, id)
        except ForwardpassError as error:
            self.fail(source, error.message)
            return error.message
        except Exception as error:  # a door: one item that nobody foresaw must not come back for ever
            log.exception("%s could not be answered", source)
            reason = f"it could not be answered ({type(error).__name__}); the agent's log says why"
            self.fail(source, reason)
            return reason
        if prediction.error is not None:
            self.fail(source, prediction.error)
            return prediction.error
        self.count("answered")
        return prediction
