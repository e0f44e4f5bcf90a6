"""A device whose cloud wants to know who asks: the token goes along, and a missing one stops no prediction."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.edge.devices import AgentProcess, Factory, agent, write_settings
from tests.edge.test_agent_cloud import ESCALATION, LONG, UNSURE, predict
from tests.engine.workers import needs_proc
from tests.gateway.test_served import classifier, write
from tests.server.http.raw import eventually

from forwardpass.edge.home import Home
from forwardpass.edge.settings import read_agent_settings
from forwardpass.errors import InvalidSettings


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_token_goes_to_the_cloud_and_a_missing_one_stops_no_prediction(tmp_path: Path) -> None:
    models = tmp_path / "models"
    classifier(models / "small" / "model.onnx", 1.0)
    remote = "remote: {urls: ['http://127.0.0.1:9'], token_env: NOT_OF_THIS_DEVICE, check_every: 0.2}\n"
    write(models, both=f"cascade: [small, large]\nescalation: {ESCALATION}\n", large=remote)
    factory, home = Factory(tmp_path), Home(tmp_path / "home")
    bundle = factory.bundle(models / "both", [[n / 4, 0.0, 0.5] for n in range(12)])
    write_settings(home, {"outbox": {"privacy": "all", "upload_every": 0.2}, "cloud_token_file": "cloud.token"})
    with listening() as (url, asked):
        words = ("--bundle", str(bundle), "--trust", str(factory.trust), "--cloud", url)
        with agent(home, *words) as device:
            assert predict(device, UNSURE)["provisional"] == [True]
            eventually(lambda: "cloud.token, which should hold a token" in _upload_error(device), LONG)
            assert asked == []
            (home.folder / "cloud.token").write_text("secret\n")
            eventually(lambda: {path for path, _ in asked} >= {"/v1/intake", "/v2/models/large"}, LONG)
    assert {token for _, token in asked} == {"Bearer secret"}


def test_a_token_without_a_cloud_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cloud_token_file is for the `cloud`, which is not given"):
        read_agent_settings(tmp_path, {"cloud_token_file": "token"})


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """The address of a server that has nothing, and path and token of every request to it."""
    asked: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["authorization"]))
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_error(404)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join(LONG)


def _upload_error(device: AgentProcess) -> str:
    services = device.ask_status()["services"]
    return next(str(item["upload_error"]) for item in services if item["name"] == "outbox")
