"""A file whose answer could not be kept before the agent was killed: asked about again, counted once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.edge.devices import AgentProcess, Factory, agent, write_settings
from tests.edge.faults.asking import LONG, service
from tests.edge.outbox.cloud import Cloud, cloud
from tests.engine.workers import fateful_model, needs_proc
from tests.server.http.raw import eventually

from forwardpass.edge.home import Home

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_file_asked_about_again_after_a_kill_is_one_record_and_one_sample(tmp_path: Path) -> None:
    factory, home = Factory(tmp_path), Home(tmp_path / "home")
    bundle = factory.bundle(fateful_model(tmp_path / "fateful"))
    write_settings(
        home,
        {
            "inputs": [{"type": "folder", "path": "in", "every": 0.02, "settle": 0}],
            "outbox": {"privacy": "all", "upload_every": 0.05},
        },
    )
    done = home.folder / "in" / "done"
    in_the_way = done / ".unfinished"  # no answer can be put beside the file, so it stays where it is
    in_the_way.mkdir(parents=True)
    (home.folder / "in" / "a.json").write_text('{"instances": [[1.0, 2.0]]}')
    with cloud(tmp_path / "intake") as taking:
        words = ("--bundle", str(bundle), "--trust", str(factory.trust), "--cloud", taking.url)
        with agent(home, *words) as device:
            name = (home.folder / "device").read_text().strip()
            eventually(lambda: uploaded(device) == (1, 1), LONG)
            assert told(taking, name) == ["record", "sample"]
            os.kill(device.process.pid, signal.SIGKILL)
            device.process.wait(LONG)
        with agent(home, *words) as device:
            device.until(lambda status: status["total"]["predictions"] == 1)
            in_the_way.rmdir()
            answer = eventually(lambda: next(iter(done.glob("*.answer.json")), None), LONG)
            eventually(lambda: uploaded(device) == (2, 2), LONG)
        assert told(taking, name) == ["record", "sample"]
        ids = {entry["body"]["id"] for entry in taking.entries(name) if entry["kind"] != "usage"}
    assert ids == {json.loads(answer.read_text())["id"]}


def told(taking: Cloud, device: str) -> list[str]:
    return sorted(entry["kind"] for entry in taking.entries(device) if entry["kind"] != "usage")


def uploaded(device: AgentProcess) -> tuple[int, int]:
    """Records and samples that the server took, whether it had them or not."""
    counts = service(device.ask_status(), "outbox").get("counts", {})
    return counts.get("uploaded_record", 0), counts.get("uploaded_sample", 0)
