"""An agent that is killed at any moment, with requests, uploads and updates under way: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.edge.devices import AgentProcess, agent, write_settings
from tests.edge.faults.asking import LONG, Asker, ask_once, asking, service
from tests.edge.faults.publishing import Publisher
from tests.edge.outbox.cloud import Cloud, cloud
from tests.edge.updates.serving import serve
from tests.engine.workers import children, needs_proc
from tests.server.http.raw import eventually
from tests.server.process import free_port

from forwardpass.edge.home import Home
from forwardpass.edge.status import ask
from forwardpass.errors import NotReady

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.timeout(300)]

MOMENTS = 25  # of each of the two runs
VERSIONS = 5
ROW = [3.0, 4.0]
IDS = "SELECT id FROM entries WHERE aside IS NULL"
USAGE = """SELECT id, body, 0 FROM entries WHERE kind = 'usage'
    UNION ALL SELECT NULL, NULL, requests - failed FROM usage"""
SETTINGS = {
    "outbox": {"privacy": "outputs", "upload_every": 0.3},
    "watch": {"seconds": 0.3, "predictions": 5, "crashes": 5},
    "check_every": 1.0,
}


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    publisher, home = Publisher(tmp_path / "publisher"), Home(tmp_path / "home")
    bundles = [publisher.bundle(str(number), noise=300_000) for number in range(1, VERSIONS + 1)]
    publisher.publish(bundles[0])
    publisher.trusted_by(home)
    write_settings(home, SETTINGS)
    draw, port, kept = random.Random(seed), free_port(), set[str]()
    counted: list[int] = []  # on the disk or in the cloud, as the agents come and go
    words = ["--bundle", str(bundles[0]), "--trust", str(publisher.factory.trust), "--port", str(port)]
    with cloud(tmp_path / "intake") as taking, serve(publisher.served) as link:
        words += ["--cloud", taking.url, "--updates", link.url]
        with agent(home, *words):
            pass  # the first installation, which has tests of its own
        del words[:2]
        with asking(port, "motor", [ROW], 0.005, f"seed{seed}") as asker:
            for moment in range(MOMENTS):
                if moment % 6 == 3:
                    publisher.publish(bundles[1 + moment // 6])
                with asker.turn:
                    counted.append(usage(home, taking))
                    before = len(asker.answered)
                with agent(home, *words, wait=False) as device:
                    if moment % 3 == 1:
                        counted.append(all_is_counted(home, taking, asker, before, counted[-1]))
                    kill_at_some_moment(device, asker, draw)
                kept |= ids_in_outbox(home)
            with asker.turn:
                counted.append(usage(home, taking))
                before = len(asker.answered)
            with agent(home, *words) as device:
                after = len(asker.answered) + 20
                eventually(lambda: len(asker.answered) > after, LONG)
                asker.stop()
                settle(device)
                assert ask_once(port, "motor", "last", ROW).outputs == {"y": ROW}
        check(home, taking, asker, kept)
        in_the_end = usage(home, taking)
    assert counted == sorted(counted), "usage that was on the disk was lost"
    assert in_the_end == counted[-1] + len(asker.answered) - before + 1, "an agent that is stopped loses none"
    assert in_the_end <= len(asker.answered) + MOMENTS + 1, "counted twice: a kill leaves one without its answer"


def all_is_counted(home: Home, taking: Cloud, asker: Asker, before: int, counted: int) -> int:
    """Waits until all that the agent has answered since its start is on the disk, each once; how many that makes."""
    eventually(lambda: len(asker.answered) > before + 20, LONG)
    with asker.turn:
        now = counted + len(asker.answered) - before
        eventually(lambda: usage(home, taking, rows_of_running) == now, LONG)
    return now


def kill_at_some_moment(device: AgentProcess, asker: Asker, draw: random.Random) -> None:
    """The agent; before that, every third time, its worker. While it starts, or while it answers."""
    if draw.random() < 0.7:
        before = len(asker.answered)
        eventually(lambda: len(asker.answered) > before, LONG)
    time.sleep(draw.uniform(0.0, 1.0))
    if draw.random() < 0.33:
        for worker in children(device.process.pid):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        time.sleep(draw.uniform(0.0, 0.3))
    os.kill(device.process.pid, signal.SIGKILL)
    device.process.wait(LONG)


def settle(device: AgentProcess) -> None:
    """Until all was uploaded, and the newest version that was not given up runs."""

    def settled() -> bool:
        with suppress(NotReady):
            ask(device.home.socket, "POST", "/check")
        status = device.ask_status()
        updates = service(status, "updates")
        newest = status["version"] == str(VERSIONS) or (updates["failed"] or {}).get("version") == str(VERSIONS)
        return newest and not service(status, "outbox")["waiting"].get("record")

    eventually(settled, LONG)


def check(home: Home, taking: Cloud, asker: Asker, kept: set[str]) -> None:
    """Every entry that was on the device's disk has arrived, each prediction and each count of it once."""
    device = (home.folder / "device").read_text().strip()
    entries = taking.entries(device)
    assert len(entries) == len({entry["id"] for entry in entries})
    assert kept <= {entry["id"] for entry in entries} | ids_in_outbox(home), "on the disk, and lost"
    records = Counter(entry["body"]["id"] for entry in entries if entry["kind"] == "record")
    assert set(records) <= {item.id for item in asker.asked} | {"last"}
    assert max(records.values()) == 1, "doubled"
    assert len(records) > MOMENTS
    assert len(kept) > MOMENTS
    assert all(item.status in (200, 0, 503) for item in asker.asked)
    assert all(item.outputs == {"y": ROW} for item in asker.answered)


def usage(home: Home, taking: Cloud, read: Callable[[Home, str], list[Any]] | None = None) -> int:
    """Requests that are counted as answered: in what arrived, in what waits, and in the minutes that are not over."""
    device = (home.folder / "device").read_text().strip()
    arrived = {entry["id"]: entry["body"] for entry in taking.entries(device) if entry["kind"] == "usage"}
    here = (read or rows)(home, USAGE)
    entries: dict[str, dict[str, int]] = arrived | {name: json.loads(body) for name, body, _ in here if name}
    minutes: list[int] = [number for _, _, number in here]
    return sum(minutes) + sum(body["requests"] - body["failed"] for body in entries.values())


def ids_in_outbox(home: Home) -> set[str]:
    return {name for (name,) in rows(home, IDS)}


def rows_of_running(home: Home, query: str) -> list[Any]:
    """What is in the outbox of an agent that runs."""
    with closing(sqlite3.connect(f"file:{home.outbox}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def rows(home: Home, query: str) -> list[Any]:
    """What is in the outbox of an agent that does not run, read from a copy: reading changes the file."""
    if not home.outbox.exists():
        return []
    copy = home.folder.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for end in ("", "-wal"):
        file = home.outbox.with_name(home.outbox.name + end)
        if file.exists():
            shutil.copyfile(file, copy / file.name)
    with closing(sqlite3.connect(copy / home.outbox.name)) as db:
        return db.execute(query).fetchall()
