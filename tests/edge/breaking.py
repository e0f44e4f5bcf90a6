"""The agent's program with a part that nobody would write: an input that raises at first, or a sign of life that does.

Run as a program with the agent's arguments; ``BREAKS`` names what breaks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from forwardpass.device import main
from forwardpass.edge.inputs import create
from forwardpass.edge.inputs.base import InputBase, Predict
from forwardpass.edge.inputs.stdin import StdinConfig
from forwardpass.edge.systemd import Notifier

TIMES = 2


class BreakingInput(InputBase):
    """Raises twice; then asks about one row."""

    Config: ClassVar[type[StdinConfig]] = StdinConfig
    began = 0

    def __init__(self, config: StdinConfig, device: str, home: Path) -> None:
        super().__init__("breaking")

    async def run(self, predict: Predict) -> None:
        self.began += 1
        if self.began <= TIMES:
            raise ZeroDivisionError(f"time {self.began}")
        self.count("read")
        await self.ask(predict, [[1.0, 2.0]], self.name)
        await self.stopping.wait()


def broken(self: Any) -> None:
    raise ZeroDivisionError("no sign of life")


if __name__ == "__main__":
    if os.environ["BREAKS"] == "input":
        create._INPUTS["breaking"] = ("__main__", "BreakingInput", "")
    else:
        Notifier.alive = broken  # type: ignore[method-assign]
    sys.exit(main())
