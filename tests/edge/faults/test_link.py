"""The link between a device and its cloud is cut in the middle of things: packets vanish, nothing is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.edge.devices import AgentProcess, Factory, agent, stop, write_settings
from tests.edge.faults.asking import LONG, NO_NETWORK, asking, service
from tests.edge.faults.netns import CLOUD, Network, network
from tests.edge.faults.publishing import Publisher
from tests.engine.workers import needs_proc
from tests.gateway.test_served import classifier, expected, write
from tests.server import process
from tests.server.http.raw import eventually
from tests.server.process import running

from forwardpass.edge.home import Home
from forwardpass.edge.status import ask

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.timeout(300)]

SURE, UNSURE = [0.0, 0.0, 9.0], [0.0, 0.5, 0.25]
ESCALATION = "{confidence: probabilities, threshold: 0.9, timeout: 1, deferred: true}"


@pytest.fixture
def wire() -> Iterator[Network]:
    with network() as made:
        yield made


# A download


def test_the_link_is_cut_in_the_middle_of_a_download(wire: Network, tmp_path: Path) -> None:
    publisher, home = Publisher(tmp_path / "publisher"), Home(tmp_path / "home")
    first, second = publisher.bundle("1"), publisher.bundle("2", noise=3_000_000)
    publisher.publish(first)
    publisher.trusted_by(home)
    write_settings(home, {"watch": {"seconds": 0.5, "predictions": 5}})
    with wire.cloud.entered(), web_server(publisher.served, tmp_path / "web.log") as url:
        words = ("--bundle", str(first), "--trust", str(publisher.factory.trust), "--updates", url)
        with wire.device.entered(), agent(home, *words) as device, asking(device.port, "motor", [[1.0, 2.0]]) as asker:
            eventually(lambda: updates(device).get("last_contact"), LONG)
            wire.slow("4mbit")
            publisher.publish(second)
            ask(home.socket, "POST", "/check")
            eventually(lambda: updates(device)["received_bytes"] > 500_000, LONG)
            wire.cut()
            began = len(asker.asked)
            eventually(lambda: updates(device)["last_error"], LONG)
            meanwhile = asker.asked[began:]
            before = chunks(tmp_path / "web.log")
            received = updates(device)["received_bytes"]
            assert 500_000 < received < updates(device)["total_bytes"]
            wire.mend()
            wire.hurry()
            ask(home.socket, "POST", "/check")
            eventually(lambda: active_version(home) == "2", LONG)
            end = len(asker.asked) + 20
            eventually(lambda: len(asker.asked) > end, LONG)
    after = chunks(tmp_path / "web.log")[len(before) :]
    assert len(set(before) & set(after)) <= 1, "only what was under way is fetched again"
    assert max(Counter(after).values()) == 1
    assert len(meanwhile) > 100
    assert all(item.status == 200 and item.outputs == {"y": [1.0, 2.0]} for item in asker.asked)
    assert max(item.seconds for item in meanwhile) < NO_NETWORK


@contextmanager
def web_server(folder: Path, log: Path) -> Iterator[str]:
    """A plain web server on the cloud's side, which the caller is on."""
    words = [sys.executable, "-m", "http.server", "8200", "--bind", CLOUD, "--directory", str(folder)]
    with log.open("wb") as said:
        started = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said)
    try:
        eventually(lambda: _listens(8200), LONG)
        yield f"http://{CLOUD}:8200"
    finally:
        started.kill()
        started.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((CLOUD, port)) == 0


def chunks(log: Path) -> list[str]:
    """Those that a web server was asked for, in order."""
    return [line.split("/chunks/")[1].split()[0] for line in log.read_text().splitlines() if "GET /chunks/" in line]


def updates(device: AgentProcess) -> dict[str, Any]:
    return service(device.ask_status(), "updates")


def active_version(home: Home) -> str:
    slot = json.loads(home.state.read_bytes())["active"]
    return str(json.loads((home.slots / slot / "manifest.json").read_bytes())["version"])


# Uploads and escalations


def test_the_link_is_cut_in_the_middle_of_uploads_and_escalations(
    wire: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "free_port", lambda: 8000)  # a network of one's own has all ports free
    home = Home(tmp_path / "home")
    bundle, words = cascade(tmp_path)
    write_settings(
        home, {"outbox": {"privacy": "all", "upload_every": 0.1}, "outputs": [{"type": "file", "path": "told.jsonl"}]}
    )
    intake = tmp_path / "intake"
    intake.mkdir()
    serve = ("--host", "0.0.0.0", "--intake", str(intake))  # of a network that is ours alone
    with wire.cloud.entered(), running([tmp_path / "cloud"], *serve) as cloud, wire.device.entered():
        with agent(home, "--bundle", str(bundle), *words) as device:
            with asking(device.port, "both", [UNSURE, SURE], 0.25) as asker:
                eventually(lambda: any(item.outputs["member"] == ["large"] for item in asker.answered), LONG)
                os.killpg(cloud.pid, signal.SIGSTOP)  # it takes what is sent, and does not answer yet
                eventually(lambda: asker.asked[-1].outputs["provisional"] == [True], LONG)
                wire.cut()
                os.killpg(cloud.pid, signal.SIGCONT)  # now it answers, and nobody hears it
                began = len(asker.asked)
                eventually(lambda: outbox(device)["upload_error"], LONG)
                error = outbox(device)["upload_error"]
                meanwhile = asker.asked[began + 1 :]
            asked = len(asker.asked)
            with wire.cloud.entered():
                eventually(lambda: of_kind("record", taken_in()) + outbox(device)["waiting"]["record"] > asked, LONG)
            wire.mend()
            eventually(lambda: not any(outbox(device)["waiting"].values()), LONG)
        with wire.cloud.entered():
            entries = taken_in()
    assert "did not answer within" in error, "it was cut in the middle"
    assert len(meanwhile) > 50
    assert all(item.status == 200 for item in asker.asked)
    assert max(item.seconds for item in asker.asked) < NO_NETWORK
    assert all(item.outputs["provisional"] == [item.row == UNSURE] for item in meanwhile)

    ids = {item.id for item in asker.asked}
    for kind in ("record", "sample"):
        assert Counter(entry["body"]["id"] for entry in entries if entry["kind"] == kind) == Counter(ids)
    provisional = {item.id for item in asker.asked if item.outputs["provisional"] == [True]}
    told = [json.loads(line) for line in (home.folder / "told.jsonl").read_text().splitlines()]
    corrected = [message for message in told if message.get("corrected")]
    assert Counter(message["id"] for message in corrected) == Counter(provisional)
    right = pytest.approx(expected([UNSURE], 5.0)[0].tolist(), rel=1e-4)
    assert all(message["predictions"][0]["probabilities"] == right for message in corrected)


def test_it_starts_and_stops_while_the_link_is_cut(wire: Network, tmp_path: Path) -> None:
    publisher, home = Publisher(tmp_path / "publisher"), Home(tmp_path / "home")
    publisher.publish(publisher.bundle("1"))
    publisher.trusted_by(home)
    bundle, words = cascade(tmp_path)
    write_settings(home, {"outbox": {"privacy": "all", "upload_every": 0.1}})
    wire.cut()
    with wire.device.entered():
        with agent(home, "--bundle", str(bundle), *words, "--updates", f"http://{CLOUD}:8200") as device:
            with asking(device.port, "both", [UNSURE, SURE]) as asker:
                eventually(lambda: len(asker.asked) > 100, LONG)
                eventually(lambda: sum(outbox(device)["waiting"].values()) > 100, LONG)
            assert updates(device)["state"] == "downloading"
            assert stop(device.process) == 0
        assert all(item.outputs.get("provisional") == [item.row == UNSURE] for item in asker.asked)
        assert max(item.seconds for item in asker.asked) < NO_NETWORK
        with agent(home, *words) as device, asking(device.port, "both", [SURE], prefix="again") as asker:
            assert sum(outbox(device)["waiting"].values()) > 100
            eventually(lambda: len(asker.answered) > 20, LONG)


def cascade(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The bundle of a small model whose next one, in ``folder/cloud``, lies in the cloud; and what the agent needs."""
    classifier(folder / "cloud" / "large" / "model.onnx", 5.0)
    models, url = folder / "models", f"http://{CLOUD}:8000"
    classifier(models / "small" / "model.onnx", 1.0)
    remote = f"remote: {{urls: ['{url}'], check_every: 0.5}}\n"
    write(models, both=f"cascade: [small, large]\nescalation: {ESCALATION}\n", large=remote)
    factory = Factory(folder)
    bundle = factory.bundle(models / "both", [[n / 4, 0.0, 0.5] for n in range(12)])
    return bundle, ("--trust", str(factory.trust), "--cloud", url)


def outbox(device: AgentProcess) -> dict[str, Any]:
    return service(device.ask_status(), "outbox")


def of_kind(kind: str, entries: list[dict[str, Any]]) -> int:
    return sum(entry["kind"] == kind for entry in entries)


def taken_in() -> list[dict[str, Any]]:
    """All entries that the cloud has, asked on its side."""
    entries: list[dict[str, Any]] = []
    while True:
        after = entries[-1]["number"] if entries else 0
        url = f"http://127.0.0.1:8000/v1/intake/entries?after={after}&limit=1000"
        with urllib.request.urlopen(url, timeout=LONG) as answer:
            page = json.load(answer)["entries"]
        if not page:
            return entries
        entries += page
