"""A function of this process as the target."""

from __future__ import annotations

import threading
import time
from typing import Any

from forwardpass.errors import InvalidInput
from forwardpass.loadtest import LocalTarget, closed, run


def test_each_connection_is_a_thread() -> None:
    seen: set[int] = set()

    def call(request: Any) -> None:
        seen.add(threading.get_ident())
        time.sleep(0.01)

    result = run(closed(LocalTarget("local", [1, 2], call=call), 3, 0.2))
    assert len(seen) == 3
    assert result.ok == result.sent > 6
    assert result.latency.min >= 0.01


def test_what_it_raises_is_an_error() -> None:
    def call(request: Any) -> None:
        if request == 1:
            raise InvalidInput("row 0: too long")
        raise ValueError("odd")

    result = run(closed(LocalTarget("local", [1, 2], call=call), 1, 0.05))
    assert result.ok == 0
    assert result.errors == {"status 500": result.sent}
    assert result.first_error == "status 500: row 0: too long"
