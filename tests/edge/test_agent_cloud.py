"""A device with a cascade whose next model lies in the cloud: alone, then with it, then alone again."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.edge.devices import AgentProcess, Factory, agent, write_settings
from tests.engine.workers import needs_proc
from tests.gateway.test_served import classifier, expected, write
from tests.server import process
from tests.server.http.raw import ask, eventually, post, request
from tests.server.process import Server, running

from forwardpass.edge.home import Home
from forwardpass.edge.status_text import show

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.timeout(300)]

ESCALATION = "{confidence: probabilities, threshold: 0.9, timeout: 20, deferred: true}"
SURE, UNSURE, SAME = [0.0, 0.0, 9.0], [0.0, 0.5, 0.25], [1.0, 1.0, 1.0]
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
            told = eventually(lambda: next(iter(_corrected(home)), None), LONG)
            assert (told["id"], told["rows"]) == ("first", [0])
            assert told["changed"] == [False], "surer now of the same"
            eventually(lambda: _kinds(cloud).get("sample", 0) >= 3, LONG)
            eventually(lambda: not any(_outbox(device)["waiting"].values()), LONG)
            assert device.ask_status()["last_contact"] is not None
            shown = show(device.ask_status())
            assert re.search(r"^cascade +both: \d+ rows, .* [1-9]\d* escalated, [1-9]\d* provisional$", shown, re.M)
            assert re.search(rf"^remote +large at {cloud.url}/?: [1-9]\d* sent", shown, re.M)
            assert re.search(r"^outbox +waiting: nothing; .*privacy: all$", shown, re.M)
            metrics = ask(device.port, request("GET", "/metrics")).body.decode()
            families = {family.name: family for family in text_string_to_metric_families(metrics)}
            assert families["forwardpass_cascade_escalated_rows"].samples[0].value > 0
            assert {sample.labels["kind"] for sample in families["forwardpass_agent_outbox_entries"].samples} >= {
                "usage"
            }
        start = time.monotonic()
        eventually(lambda: predict(device, UNSURE)["provisional"] == [True], LONG)
        assert time.monotonic() - start < LONG


def test_rows_are_corrected_under_the_id_that_their_caller_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over V1 and V2, with ids of the client's, also twice, and with none; some rows of many."""
    cloud_model = tmp_path / "cloud" / "large"
    classifier(cloud_model / "model.onnx", -5.0)  # of another mind
    models = tmp_path / "models"
    classifier(models / "small" / "model.onnx", 1.0)
    write(
        models,
        both=f"cascade: [small, large]\nescalation: {ESCALATION}\n",
        large="remote: {urls: ['http://127.0.0.1:9'], check_every: 0.2}\n",
    )
    factory, home = Factory(tmp_path), Home(tmp_path / "home")
    bundle = factory.bundle(models / "both", [[n / 4, 0.0, 0.5] for n in range(12)])
    port = process.free_port()
    monkeypatch.setattr(process, "free_port", lambda: port)  # where the next server listens
    (tmp_path / "intake").mkdir()
    outbox = {"privacy": "unsure", "upload_every": 0.2}
    write_settings(home, {"outbox": outbox, "outputs": [{"type": "file", "path": "told.jsonl"}]})
    words = ("--bundle", str(bundle), "--trust", str(factory.trust), "--cloud", f"http://127.0.0.1:{port}")
    rows = [SURE, UNSURE, [9.0, 0.0, 0.0], SAME]
    with agent(home, *words) as device:

        def instances(*headers: str) -> str | None:
            answer = ask(device.port, post("/v1/models/both:predict", {"instances": rows}, *headers))
            assert [item["provisional"] for item in answer.json["predictions"]] == [False, True, False, True]
            return answer.headers.get("x-request-id")

        drawn = instances()
        assert drawn is not None
        assert [instances("X-Request-ID: mine") for _ in range(2)] == ["mine"] * 2
        assert predict(device, UNSURE, "in-the-body")["provisional"] == [True]
        sure = ask(device.port, post("/v1/models/both:predict", {"instances": [SURE]}))
        assert "x-request-id" not in sure.headers, "nothing is told later"
        with running([cloud_model.parent], "--intake", str(tmp_path / "intake")) as cloud:
            corrected = eventually(lambda: found if len(found := _corrected(home)) == 4 else None, LONG)
            eventually(lambda: not any(_outbox(device)["waiting"].values()), LONG)
            records = [entry["body"] for entry in get(cloud, "/v1/intake/entries")["entries"]]
    assert [message["id"] for message in corrected] == [drawn, "mine", "mine", "in-the-body"]
    wanted = expected(rows, -5.0).tolist()
    for message in corrected[:3]:
        assert (message["source"], message["model"], message["version"]) == ("http", "both", "1")
        assert (message["rows"], message["changed"]) == ([1, 3], [True, False])
        given = [item["probabilities"] for item in message["predictions"]]
        assert given == [pytest.approx(wanted[row], rel=1e-4) for row in (1, 3)]
    assert (corrected[3]["rows"], corrected[3]["changed"]) == ([0], [True])
    for name in {message["id"] for message in corrected}:
        assert name in {message["id"] for message in _told(home) if "corrected" not in message}
        assert name in {record.get("id") for record in records}


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


def _told(home: Home) -> list[Any]:
    file = home.folder / "told.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _corrected(home: Home) -> list[Any]:
    return [line for line in _told(home) if line.get("corrected")]


def _kinds(cloud: Server) -> dict[str, int]:
    kinds = [entry["kind"] for entry in get(cloud, "/v1/intake/entries")["entries"]]
    return {kind: kinds.count(kind) for kind in kinds}


def _outbox(device: AgentProcess) -> dict[str, Any]:
    service: dict[str, Any] = next(item for item in device.ask_status()["services"] if item["name"] == "outbox")
    return service


def test_where_no_row_may_leave_that_is_why_though_the_server_is_well(tmp_path: Path) -> None:
    cloud_model = tmp_path / "cloud" / "large"
    classifier(cloud_model / "model.onnx", 5.0)
    models = tmp_path / "models"
    classifier(models / "small" / "model.onnx", 1.0)
    factory, home = Factory(tmp_path), Home(tmp_path / "home")
    with running([cloud_model.parent]) as cloud:
        remote = f"remote: {{urls: ['{cloud.url}'], check_every: 0.2}}\n"
        write(models, both=f"cascade: [small, large]\nescalation: {ESCALATION}\n", large=remote)
        bundle = factory.bundle(models / "both", [[n / 4, 0.0, 0.5] for n in range(12)])
        with agent(home, "--bundle", str(bundle), "--trust", str(factory.trust)) as device:
            device.until(lambda status: status["last_contact"] is not None)
            assert predict(device, UNSURE)["provisional"] == [True]
            shown = show(device.ask_status())
            assert "0 escalated, 1 provisional\n            provisional, because: 1 privacy\n" in shown
            assert "contact     a server was reached" in shown
            assert "!" not in shown
            said = device.log.read_text()
            assert "`outbox: {privacy: outputs}`" in said
            assert "can be asked" not in said
