"""A home whose disk is full: the agent predicts, starts again, says what is wrong, and recovers by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.edge.devices import AgentProcess, agent, write_settings
from tests.edge.faults.asking import LONG, asking, service
from tests.edge.faults.publishing import Publisher
from tests.edge.outbox.cloud import cloud
from tests.edge.updates.serving import serve
from tests.engine.workers import needs_proc
from tests.server.http.raw import eventually

from forwardpass.edge.home import Home
from forwardpass.edge.status import ask

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = [[1.0, 2.0]]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Home]:
    """A home on a disk of its own, of 24 MB."""
    folder = tmp_path / "home"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield Home(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_full(small: Home, tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher")
    first, second = publisher.bundle("1"), publisher.bundle("2", noise=500_000)
    publisher.publish(first)
    publisher.trusted_by(small)
    write_settings(small, {"outbox": {"upload_every": 0.1}, "watch": {"seconds": 0.2, "predictions": 5}})
    with cloud(tmp_path / "intake") as taking, serve(publisher.served) as link:
        words = ["--trust", str(publisher.factory.trust), "--cloud", taking.url, "--updates", link.url]
        with agent(small, "--bundle", str(first), *words) as device, asking(device.port, "motor", ROWS) as asker:
            name = (small.folder / "device").read_text().strip()
            eventually(lambda: taking.ids(name), LONG)
            fill(small)
            publisher.publish(second)
            ask(small.socket, "POST", "/check")
            eventually(
                lambda: "No space left on device; make room" in (of(device, "updates")["last_error"] or ""), LONG
            )
            eventually(lambda: of(device, "outbox")["error"], LONG)
            after = len(asker.asked) + 50
            eventually(lambda: len(asker.asked) > after, LONG)
            lost = of(device, "outbox")["lost"]
            said = device.log.read_text()
            os.kill(device.process.pid, signal.SIGKILL)
            device.process.wait(LONG)
        answered = asker.answered
        assert lost["record"] > 0
        assert said.count("the outbox cannot be used") == 1
        assert len(answered) >= len(asker.asked) - 1, "all but what was under way when it was killed"
        with agent(small, *words) as device, asking(device.port, "motor", ROWS, prefix="again") as asker:
            eventually(lambda: len(asker.answered) > 50, LONG)
            assert device.ask_status()["version"] == "1"
            (small.folder / "filler").unlink()
            before = len(asker.asked)
            ask(small.socket, "POST", "/check")
            eventually(lambda: json.loads(small.state.read_bytes())["active"] == "b", LONG)
            eventually(lambda: len(asker.asked) > before + 20, LONG)
            recent = asker.asked[-1].id
            eventually(lambda: recent in told(taking, name), LONG)
            assert not of(device, "outbox")["error"]
            assert device.ask_status()["version"] == "2"
    assert all(item.outputs == {"y": ROWS[0]} for item in [*answered, *asker.asked])


def fill(home: Home) -> None:
    """Not a byte is left."""
    with (home.folder / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))
    assert os.statvfs(home.folder).f_bavail == 0


def of(device: AgentProcess, name: str) -> dict[str, Any]:
    return service(device.ask_status(), name)


def told(taking: Any, device: str) -> set[str]:
    """The predictions that the cloud has a record of."""
    return {entry["body"]["id"] for entry in taking.entries(device) if entry["kind"] == "record"}
