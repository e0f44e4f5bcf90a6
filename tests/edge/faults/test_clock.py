"""A device whose clock is years off: it predicts and tells as ever, refuses updates, and says what its clock says.

The device's clock is that of this machine; it is the publisher's that is off, which to the device is the same.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.edge.devices import agent, write_settings
from tests.edge.faults.asking import LONG, asking, service
from tests.edge.faults.publishing import Publisher
from tests.edge.updates.serving import serve
from tests.engine.workers import needs_proc
from tests.server.http.raw import eventually

from forwardpass.edge.home import Home
from forwardpass.edge.status import ask

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.timeout(300)]

YEAR = 365.25 * 86_400.0
REFUSED = {20.0: "in the future", -20.0: "expired"}  # by the years that the publisher is ahead of the device


@pytest.mark.parametrize("years", REFUSED)
def test_a_clock_that_is_years_off(tmp_path: Path, years: float) -> None:
    publisher = Publisher(tmp_path / "publisher", lambda: time.time() + years * YEAR)
    home = Home(tmp_path / "home")
    first, second = publisher.bundle("1"), publisher.bundle("2")
    publisher.publish(second)
    publisher.trusted_by(home)
    write_settings(home, {"check_every": 1})
    with serve(publisher.served) as link:
        words = ("--bundle", str(first), "--trust", str(publisher.factory.trust), "--updates", link.url)
        with agent(home, *words) as device, asking(device.port, "motor", [[1.0, 2.0]]) as asker:
            eventually(lambda: service(device.ask_status(), "updates").get("last_error"), LONG)
            status = service(device.ask_status(), "updates")
            after = len(asker.asked) + 20
            ask(home.socket, "POST", "/check")
            eventually(lambda: len(asker.asked) > after, LONG)
            assert device.ask_status()["version"] == "1"
    assert REFUSED[years] in status["last_error"]
    assert (
        f"the device's clock says {datetime.fromtimestamp(status['last_check'], UTC):%Y-%m-%d}" in status["last_error"]
    )
    assert link.chunks() == []
    assert json.loads(home.state.read_bytes())["active"] == "a"
    assert all(item.status == 200 and item.outputs == {"y": [1.0, 2.0]} for item in asker.asked)
