"""One prediction inside the agent: what came in, what was answered, and by what.

Made after the answer has gone out, for rules, outputs and the outbox. Knows neither where it came
from (``source`` is a text) nor where it goes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """The rows of one request and their answers.

    ``source`` is the input it came from (``http``, ``mqtt:motors/7`` …), ``at`` seconds since the
    epoch by the device's clock, ``seconds`` what it took from arrival to answer. ``instances`` are
    the rows as V1 instances (perhaps made when they are looked at), ``answers`` as V1 predictions: of each row a bare
    value or a mapping by output; both hold what JSON can say (bytes as ``{"b64": …}``). ``provisional``: a model that
    should have been asked was not. ``confidence`` is that of the least sure row, None where the
    model says none. With an ``error`` (its message) there are no answers. ``stable``: the ``id`` is the same where the
    same item is asked about again, such as after a crash.
    """

    id: str
    source: str
    at: float
    model: str
    version: str
    instances: Sequence[Any]
    answers: list[Any]
    provisional: bool = False
    confidence: float | None = None
    error: str | None = None
    seconds: float = 0.0
    stable: bool = False


def new_id() -> str:
    """A name that nothing else has; drawn, so that one whose writing was lost is never used again."""
    return secrets.token_hex(12)
