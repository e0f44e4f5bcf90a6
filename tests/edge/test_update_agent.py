"""Updates of a running agent: good ones are kept, bad ones taken back, and nobody is refused meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests import artifacts
from tests.edge.bundles import trust
from tests.edge.mosquitto import free_port
from tests.edge.updates.serving import Link, serve

from forwardpass.edge.build import build
from forwardpass.edge.home import Home
from forwardpass.edge.signing import create_key, read_private_key
from forwardpass.edge.status import ask
from forwardpass.errors import NotReady

pytest.importorskip("tuf", reason="updates need tuf (the extra `updates`)")

from forwardpass.edge.updates.repository import Repository
from forwardpass.edge.updates.signers import Signers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONG = 120.0  # seconds to wait for what should take one or two: machines are shared
WATCH = "watch: {seconds: 3, predictions: 5}\n"
WATCH_LONG = 600.0
WATCH_TIMES = "watch: {seconds: 12, predictions: 3, p99: 2.0}\n"
MODEL = "postprocess: [{step: spoil}]\n"
STEPS = """\
import os, time
from forwardpass import step

@step(reads=["y"], writes={"y": "FP32[2]"})
def spoil(columns):
    y = columns["y"]
    BODY
    return {"y": y}
"""
VERSIONS = {
    "1": "pass",
    "2": "if (y > 100).any(): os._exit(9)",  # dies of a row that the golden ones have not
    "3": "y = y + float(os.environ.get('ON_THE_DEVICE', 0))",  # answers otherwise where it is installed
    "4": "time.sleep(0.0 if (y < 1).all() else 2.5)",  # slow with rows that the golden ones have not
    "5": "if (y > 1).any(): raise ValueError('no')",  # fails with them
    "6": "y = y * 1.0",
    "7": "y = y + 0.0",
    "8": "y = y / 1.0",
}


class Publisher:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.served = folder / "served"
        self.key = folder / "bundle.key"
        create_key(self.key)
        signers = Signers(folder / "keys")
        signers.create()
        self.repository = Repository(self.served, signers)

    def bundle(self, version: str) -> Path:
        model = self.folder / "models" / "motor" / version
        artifacts.identity(model / "model.onnx")
        (model / "model.yaml").write_text(MODEL)
        (model / "steps.py").write_text(STEPS.replace("BODY", VERSIONS[version]))
        rows = [[index / 16, 0.5] for index in range(12)]
        return build(model.parent, read_private_key(self.key), self.folder, version=version, rows=rows).path

    def publish(self, version: str) -> None:
        self.repository.publish(self.bundle(version), "stable", timedelta(days=1))


ROWS = [2.0, 3.0], [4.0, 5.0], [600.0, 700.0]  # the third is unlike the golden ones


class Client:
    """Asks about ``rows`` in turn without a pause, and keeps what was not answered right."""

    def __init__(self, port: int, rows: Sequence[list[float]] = ROWS) -> None:
        self.rows = rows
        self.answered = 0
        self.wrong: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONG)) as connection:
            while not self._stop.wait(0.01):
                for row in self.rows:
                    self._ask(connection, row)
                    self.answered += 1

    def _ask(self, connection: http.client.HTTPConnection, row: list[float]) -> None:
        try:
            connection.request("POST", "/v1/models/motor:predict", json.dumps({"instances": [row]}))
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
            return
        if response.status != 200 or json.loads(body) != {"predictions": [row]}:
            self.wrong.append(f"{response.status} {body!r}")


class Hurried:
    """Asks over V2 as fast as it is answered; keeps which versions said so, in their order, and what was wrong."""

    def __init__(self, port: int) -> None:
        self.versions: list[str] = []
        self.wrong: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [3.0, 4.0]}
        body = json.dumps({"inputs": [tensor]})
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONG)) as connection:
            while not self._stop.is_set() and not self.wrong:
                try:
                    connection.request("POST", "/v2/models/motor/infer", body)
                    response = connection.getresponse()
                    said = json.loads(response.read())
                    assert (response.status, said["outputs"][0]["data"]) == (200, [3.0, 4.0]), said
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    self.wrong.append(repr(error))
                    return
                if self.versions[-1:] != [said["model_version"]]:
                    self.versions.append(said["model_version"])


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


@pytest.fixture
def link(publisher: Publisher) -> Iterator[Link]:
    publisher.publish("1")
    with serve(publisher.served) as link:
        yield link


@pytest.fixture
def home(tmp_path: Path, publisher: Publisher, link: Link) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    (home.folder / "agent.yaml").write_text(WATCH)
    trust(home.keys, publisher.key)
    (home.updates / "root.json").write_bytes(publisher.repository.first_root.read_bytes())
    return home


@contextmanager
def agent(home: Home, link: Link, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    words = ["--home", str(home.folder), "--updates", link.url, "--port", "0", *more]
    environment = {**os.environ, "ON_THE_DEVICE": "1"}
    process = subprocess.Popen([sys.executable, "-m", "forwardpass.edge", "agent", *words], env=environment)
    try:
        wait_for(lambda: status(home, process)["ready"])
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LONG)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def status(home: Home, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.poll() is None, "the agent ended"
    try:
        return ask(home.socket)  # type: ignore[no-any-return]
    except NotReady:
        return {"ready": False, "version": "", "services": [], "watching": None}


def updates(home: Home, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    found = [service for service in status(home, process)["services"] if service["name"] == "updates"]
    return found[0] if found else {"failed": None, "state": "", "last_check": None}


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def runs(home: Home, process: subprocess.Popen[bytes], version: str) -> bool:
    return bool(status(home, process)["version"] == version)


def active(home: Home) -> str:
    """The version in the slot that would be started next."""
    slot = json.loads(home.state.read_bytes())["active"]
    return str(json.loads((home.slots / slot / "manifest.json").read_bytes())["version"])


REASONS = {"3": "golden rows otherwise", "4": "took up to", "5": "failed"}


@pytest.mark.parametrize("version", REASONS)
def test_a_bad_update_is_taken_back_and_nobody_is_refused(
    publisher: Publisher, home: Home, link: Link, version: str
) -> None:
    if version == "4":
        (home.folder / "agent.yaml").write_text(WATCH_TIMES)
    with agent(home, link, "--bundle", str(publisher.bundle("1"))) as process:
        client = Client(int(status(home, process)["address"].rpartition(":")[2]))
        try:
            wait_for(lambda: client.answered > 20)
            publisher.publish(version)
            ask(home.socket, "POST", "/check")
            wait_for(lambda: updates(home, process)["failed"] is not None)
            after = client.answered + 20
            wait_for(lambda: client.answered > after)
        finally:
            client.stop()
        failed = updates(home, process)["failed"]
        assert failed["version"] == version
        assert REASONS[version] in failed["why"]
        assert status(home, process)["version"] == active(home) == "1"
        assert client.wrong == []

        publisher.publish("6")
        ask(home.socket, "POST", "/check")
        wait_for(lambda: active(home) == "6")
        assert status(home, process)["version"] == "6"


def test_an_update_that_crashes_on_the_third_input_is_taken_back_at_once(
    publisher: Publisher, home: Home, link: Link
) -> None:
    """Long before the time is over for which it is watched; nobody is refused."""
    (home.folder / "agent.yaml").write_text(f"watch: {{seconds: {WATCH_LONG}}}\n")
    with agent(home, link, "--bundle", str(publisher.bundle("1"))) as process:
        client = Client(int(status(home, process)["address"].rpartition(":")[2]), ROWS[:2])
        try:
            publisher.publish("2")
            ask(home.socket, "POST", "/check")
            wait_for(lambda: status(home, process)["watching"] is not None)
            before = time.time()
            client.rows = ROWS
            wait_for(lambda: updates(home, process)["failed"] is not None)
            after = client.answered + 20
            wait_for(lambda: client.answered > after)
        finally:
            client.stop()
        failed = updates(home, process)["failed"]
        assert failed["version"] == "2"
        assert "its worker died once" in failed["why"]
        assert before < failed["at"] < before + WATCH_LONG / 10
        assert status(home, process)["watching"] is None
        assert status(home, process)["version"] == active(home) == "1"
        assert client.wrong == []


def acting(publisher: Publisher, version: str, what: str) -> Path:
    """A bundle whose rule does this with every answer."""
    model = publisher.folder / "models" / "look" / version
    artifacts.lookup(model / "model.onnx")
    rule = f"{{output: y, above: -1, {what}}}"
    (model / "model.yaml").write_text(f"description: version {version}\nactions: [{rule}]\n")
    return build(model.parent, read_private_key(publisher.key), publisher.folder, version=version, rows=[1]).path


def alarming(publisher: Publisher, version: str, port: int) -> Path:
    """One that posts every answer to where nobody listens."""
    return acting(publisher, version, f"webhook: 'http://127.0.0.1:{port}/alarm'")


def test_an_update_that_lacked_a_setting_is_kept_after_the_next_start_with_it(
    publisher: Publisher, home: Home, link: Link
) -> None:
    pytest.importorskip("aiomqtt", reason="rules publish by aiomqtt (the extra `mqtt`)")
    with agent(home, link, "--bundle", str(alarming(publisher, "1", free_port()))) as process:
        publisher.repository.publish(acting(publisher, "2", "publish: alarms"), "stable", timedelta(days=1))
        ask(home.socket, "POST", "/check")
        wait_for(lambda: updates(home, process)["failed"] is not None)
        assert "needs a broker; say its `url` under `mqtt:`" in updates(home, process)["failed"]["why"]
        assert status(home, process)["version"] == active(home) == "1"
    with (home.folder / "agent.yaml").open("a") as settings:
        settings.write(f"mqtt: {{url: 'mqtt://127.0.0.1:{free_port()}'}}\n")
    with agent(home, link) as process:
        wait_for(lambda: active(home) == "2")
        wait_for(lambda: updates(home, process)["failed"] is None)
    (home.folder / "agent.yaml").write_text(WATCH)
    words = [sys.executable, "-m", "forwardpass.edge", "agent", "--home", str(home.folder), "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, active(home)) == (1, "2"), "its owner's settings are no reason to go back a version"
    assert "needs a broker; say its `url` under `mqtt:` in agent.yaml" in done.stderr


def test_alarms_that_wait_for_their_target_outlive_an_update(publisher: Publisher, home: Home, link: Link) -> None:
    port = free_port()

    def alarm(waiting: int) -> None:
        """One more: so many wait then, all at one output."""
        address = status(home, process)["address"].removeprefix("http://")
        with closing(http.client.HTTPConnection(address, timeout=LONG)) as connection:
            connection.request("POST", "/v1/models/look:predict", json.dumps({"instances": [1]}))
            assert connection.getresponse().read() == b'{"predictions":[10.0]}'
        wait_for(lambda: sum(output["waiting"] for output in status(home, process)["outputs"]) == waiting)
        (output,) = status(home, process)["outputs"]
        assert output["counts"] == {"sent": 0, "failed": 0, "dropped": 0}

    with agent(home, link, "--bundle", str(alarming(publisher, "1", port))) as process:
        alarm(1)
        publisher.repository.publish(alarming(publisher, "2", port), "stable", timedelta(days=1))
        ask(home.socket, "POST", "/check")
        wait_for(partial(runs, home, process, "2"))
        alarm(2)


def test_an_update_that_the_agent_is_killed_in(publisher: Publisher, home: Home, link: Link) -> None:
    """Killed while the new version is watched: the old one starts, the new one is tried again and kept."""
    with agent(home, link, "--bundle", str(publisher.bundle("1"))) as process:
        publisher.publish("6")
        ask(home.socket, "POST", "/check")
        wait_for(lambda: status(home, process)["watching"] is not None)
        process.kill()
        process.wait()
    assert active(home) == "1"
    chunks = len(link.chunks())
    with agent(home, link) as process:
        wait_for(lambda: active(home) == "6")
        assert status(home, process)["version"] == "6"
    assert len(link.chunks()) == chunks, "all of it was on the device"


def test_updates_one_right_after_the_other_at_full_speed(publisher: Publisher, home: Home, link: Link) -> None:
    """Each is published while the one before it is watched; nobody is refused, and no answer goes back in time."""
    (home.folder / "agent.yaml").write_text("watch: {seconds: 1, predictions: 5}\n")
    with agent(home, link, "--bundle", str(publisher.bundle("1"))) as process:
        port = int(status(home, process)["address"].rpartition(":")[2])
        clients = [Hurried(port) for _ in range(3)]
        try:
            wait_for(lambda: all(client.versions for client in clients))
            for version in "678":
                publisher.publish(version)
                ask(home.socket, "POST", "/check")
                wait_for(partial(runs, home, process, version))
            wait_for(lambda: active(home) == "8")
            wait_for(lambda: all(client.versions[-1] == "8" or client.wrong for client in clients))
        finally:
            for client in clients:
                client.stop()
        assert [client.wrong for client in clients] == [[]] * 3
        assert [client.versions for client in clients] == [["1", "6", "7", "8"]] * 3
