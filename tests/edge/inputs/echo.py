"""A predictor for tests of inputs: answers each row with itself, and refuses rows, or breaks on them, that say so."""

from __future__ import annotations

import asyncio
from typing import Any

from forwardpass.edge.prediction import Prediction

REFUSED = {"refuse": True}
BROKEN = {"break": True}


class Echo:
    """Obeys ``Predict``; remembers what it was asked. Holds answers back while ``gate`` is clear."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Any], str | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, rows: list[Any], source: str, id: str | None = None) -> Prediction:
        self.asked.append((source, rows, id))
        await self.gate.wait()
        if BROKEN in rows:
            raise ZeroDivisionError
        error = "the model refuses this row" if REFUSED in rows else None
        return Prediction(id or "made-up", source, 0.0, "echo", "1", rows, [] if error else rows, error=error)

    @property
    def rows(self) -> list[Any]:
        return [row for _, rows, _ in self.asked for row in rows]
