"""A device with a cascade whose next model lies in the cloud: alone, then with it, then alone again."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.edge.devices import AgentProcess, Factory, agent, write_settings
from tests.engine.workers import needs_proc
from tests.gateway.test_served import classifier, write
from tests.server import process
from tests.server.http.raw import ask, eventually, post, request
from tests.server.process import Server, running

from forwardpass.edge.home import Home

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.timeout(300)]

ESCALATION = "{confidence: probabilities, threshold: 0.9, timeout: 20, deferred: true}"
SURE, UNSURE = [0.0, 0.0, 9.0], [0.0, 0.5, 0.25]
LONG = 60.0


def predict(device: AgentProcess, row: list[float], name: str = "") -> Any:
    """The answer over V2, by output."""
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row}
    body = {"inputs": [tensor], **({"id": name} if name else {})}
    answer = ask(device.port, post("/v2/models/both/infer", body))
    assert answer.status == 200, answer
    return {output["name"]: output["data"] for output in answer.json["outputs"]}


def get(server: Server, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=LONG) as answer:
        return json.load(answer)


def test_the_cloud_is_asked_when_it_can_be_and_later_where_it_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud_model = tmp_path / "cloud" / "large"
    classifier(cloud_model / "model.onnx", 5.0)
    models = tmp_path / "models"
    classifier(models / "small" / "model.onnx", 1.0)
    write(
        models,
        both=f"cascade: [small, large]\nescalation: {ESCALATION}\n",
        large="remote: {urls: ['http://127.0.0.1:9'], check_every: 0.2}\n",
    )
    factory, home = Factory(tmp_path), Home(tmp_path / "home")
    rows = [[n / 4, 0.0, 0.5] for n in range(12)]
    bundle = factory.bundle(models / "both", rows)
    port = process.free_port()
    monkeypatch.setattr(process, "free_port", lambda: port)  # where the next server listens
    (tmp_path / "intake").mkdir()
    outbox = {"privacy": "all", "upload_every": 0.2}
    write_settings(home, {"outbox": outbox, "outputs": [{"type": "file", "path": "told.jsonl"}]})
    words = ("--bundle", str(bundle), "--trust", str(factory.trust), "--cloud", f"http://127.0.0.1:{port}")
    with agent(home, *words) as device:
        alone = predict(device, UNSURE, "first")
        assert (alone["member"], alone["provisional"]) == (["small"], [True])
        assert predict(device, SURE)["provisional"] == [False]
        with running([cloud_model.parent], "--intake", str(tmp_path / "intake")) as cloud:
            eventually(lambda: predict(device, UNSURE)["member"] == ["large"], LONG)
            told = eventually(lambda: _corrected(home), LONG)
            assert told["id"] == "first"
            assert told["changed"] is True
            eventually(lambda: _kinds(cloud).get("sample", 0) >= 3, LONG)
            eventually(lambda: not any(_outbox(device)["waiting"].values()), LONG)
            assert device.ask_status()["last_contact"] is not None
        start = time.monotonic()
        eventually(lambda: predict(device, UNSURE)["provisional"] == [True], LONG)
        assert time.monotonic() - start < LONG


def test_no_row_leaves_a_device_that_was_not_told_to_let_it(tmp_path: Path) -> None:
    """The default lets answers out, no inputs: what is unsure gets the small model's answer."""
    cloud_model = tmp_path / "cloud" / "large"
    classifier(cloud_model / "model.onnx", 5.0)
    models = tmp_path / "models"
    classifier(models / "small" / "model.onnx", 1.0)
    write(
        models,
        both="cascade: [small, large]\nescalation: {confidence: probabilities, threshold: 0.9, timeout: 20}\n",
        large="remote: {urls: ['http://127.0.0.1:9'], check_every: 0.2}\n",
    )
    factory, home = Factory(tmp_path), Home(tmp_path / "home")
    bundle = factory.bundle(models / "both", [[n / 4, 0.0, 0.5] for n in range(12)])
    with running([cloud_model.parent]) as cloud:
        words = ("--bundle", str(bundle), "--trust", str(factory.trust), "--cloud", cloud.url)
        with agent(home, *words) as device:
            eventually(lambda: ask(device.port, request("GET", "/v2/models/large/ready")).status == 200, LONG)
            assert predict(device, UNSURE)["provisional"] == [True]
            answer = ask(device.port, post("/v1/models/large:predict", {"instances": [UNSURE]}))
            assert answer.status == 503
            assert "no row may leave this device" in answer.json["error"]
        stats = get(cloud, "/v2/models/large/stats")["model_stats"][0]
        assert stats["inference_count"] == 0


def _corrected(home: Home) -> Any:
    file = home.folder / "told.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return next((line for line in lines if line.get("corrected")), None)


def _kinds(cloud: Server) -> dict[str, int]:
    kinds = [entry["kind"] for entry in get(cloud, "/v1/intake/entries")["entries"]]
    return {kind: kinds.count(kind) for kind in kinds}


def _outbox(device: AgentProcess) -> dict[str, Any]:
    service: dict[str, Any] = next(item for item in device.ask_status()["services"] if item["name"] == "outbox")
    return service
