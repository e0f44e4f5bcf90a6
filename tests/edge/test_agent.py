"""The agent as a device runs it: its program, its home, its end; and everything it may meet on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import artifacts
from tests.edge.devices import START, AgentProcess, Factory, agent, command, stop, write_settings
from tests.engine.workers import HANGS, KILLER, children, fateful_model, lives, needs_proc
from tests.server.http.raw import ask, eventually, post

from forwardpass.edge.home import Home
from forwardpass.edge.main import main

pytestmark = needs_proc


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def bundle(factory: Factory) -> Path:
    return factory.bundle(fateful_model(factory.folder / "fateful"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def install(factory: Factory, bundle: Path) -> tuple[str, ...]:
    return "--bundle", str(bundle), "--trust", str(factory.trust)


def predict(device: AgentProcess, *rows: list[float]) -> Any:
    return ask(device.port, post("/v1/models/fateful:predict", {"instances": rows})).json


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What an agent says that cannot start; in this process, since none of it gets as far as loading."""

    def say(home: Home, *words: str) -> str:
        with np.errstate():
            assert main(["agent", "--home", str(home.folder), "--port", "0", *words]) == 1
        return capsys.readouterr().err

    return say


def test_the_first_start_installs_and_the_next_goes_on_with_it(home: Home, factory: Factory, bundle: Path) -> None:
    with agent(home, *install(factory, bundle)) as device:
        assert predict(device, [1.0, 2.0]) == {"predictions": [[1.0, 2.0]]}
        assert (device.status["slot"], device.status["version"]) == ("a", "1")
        (worker,) = children(device.process.pid)
        assert stop(device.process) == 0
        assert not lives(worker)
        assert not home.socket.exists()
    with agent(home) as device:
        assert predict(device, [3.0, 4.0]) == {"predictions": [[3.0, 4.0]]}
        said = subprocess.run(command(home, "status"), capture_output=True, text=True, timeout=START, check=True)
        assert "fateful version 1 (slot a), ready" in said.stdout
        plain = subprocess.run(command(home, "status", "--json"), capture_output=True, timeout=START, check=True)
        assert json.loads(plain.stdout)["total"]["predictions"] == 1


@pytest.mark.slow
def test_the_same_bundle_again_changes_nothing_and_another_takes_over(
    home: Home, factory: Factory, bundle: Path, tmp_path: Path
) -> None:
    write_settings(home, {"watch": {"seconds": 0.1}})
    with agent(home, *install(factory, bundle)):
        pass
    with agent(home, *install(factory, bundle)) as device:
        assert device.status["slot"] == "a"
        assert device.status["services"] == []
    another = fateful_model(tmp_path / "fateful")
    (another / "labels.txt").write_text("new")
    (another / "model.yaml").write_text("description: newer\npreprocess: [{step: fate}]\n")
    with agent(home, *install(factory, factory.bundle(another))) as device:
        device.until(lambda status: status["slot"] == "b" and status["watching"] is None)
        eventually(lambda: json.loads(home.state.read_text())["active"] == "b")
        assert predict(device, [1.0, 2.0]) == {"predictions": [[1.0, 2.0]]}


def test_what_cannot_start_says_why(
    home: Home, factory: Factory, bundle: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    assert "give the first bundle" in fails(home)
    assert "no key is trusted" in fails(home, "--bundle", str(bundle))
    assert "another.bundle" in fails(home, *install(factory, tmp_path / "another.bundle"))
    damaged = tmp_path / "damaged.bundle"
    damaged.write_bytes(bundle.read_bytes()[:-1])
    assert "damaged.bundle" in fails(home, *install(factory, damaged))
    write_settings(home, {"portt": 1})
    assert "Did you mean 'port'?" in fails(home, *install(factory, bundle))
    write_settings(home, {"inputs": [{"type": "carrier-pigeon"}]})
    assert "carrier-pigeon" in fails(home, *install(factory, bundle))
    assert "no agent runs with the home" in fails(home, "status")


@pytest.mark.slow
def test_a_unit_that_names_the_first_bundle_undoes_no_update(home: Home, factory: Factory, tmp_path: Path) -> None:
    old, new = (fateful_model(tmp_path / version / "fateful" / version) for version in ("1", "2"))
    write_settings(home, {"watch": {"seconds": 0.1}})
    first = factory.bundle(old)
    with agent(home, *install(factory, factory.bundle(new))) as device:
        assert device.status["version"] == "2"
    with agent(home, *install(factory, first)) as device:
        assert device.status["version"] == "2"
        assert "is newer than" in device.log.read_text()


@pytest.mark.slow
def test_a_bundle_of_another_model_takes_over_whatever_its_version(
    home: Home, factory: Factory, bundle: Path, tmp_path: Path
) -> None:
    write_settings(home, {"watch": {"seconds": 0.1}})
    with agent(home, *install(factory, factory.bundle(fateful_model(tmp_path / "another" / "2")))) as device:
        assert (device.status["model"], device.status["version"]) == ("another", "2")
    with agent(home, *install(factory, bundle)) as device:
        device.until(lambda status: status["model"] == "fateful" and status["watching"] is None)


@pytest.mark.slow
def test_a_first_bundle_is_not_installed_where_a_signal_comes_while_it_loads(
    home: Home, factory: Factory, tmp_path: Path
) -> None:
    folder = fateful_model(tmp_path / "fateful")
    (folder / "steps.py").write_text(
        (folder / "steps.py").read_text() + "\nif os.environ.get('ON_THE_DEVICE'):\n    __import__('time').sleep(30)\n"
    )
    words = install(factory, factory.bundle(folder))
    with agent(home, *words, wait=False, env={**os.environ, "ON_THE_DEVICE": "1"}) as device:
        device.until(lambda status: status["reason"] == "loading")
        assert stop(device.process) == 0
        assert "answers at" not in device.log.read_text()
    assert not home.state.exists()


@pytest.mark.slow
def test_a_bundle_mends_a_device_whose_slots_are_damaged(home: Home, factory: Factory, bundle: Path) -> None:
    with agent(home, *install(factory, bundle)):
        pass
    (artifact,) = home.slots.rglob("model.onnx")
    artifact.write_bytes(b"dust")
    with agent(home, *install(factory, bundle)) as device:
        assert "is not what its manifest says" in device.log.read_text()
        assert predict(device, [1.0, 2.0]) == {"predictions": [[1.0, 2.0]]}


def test_a_first_bundle_that_is_not_well_is_not_installed(home: Home, factory: Factory, tmp_path: Path) -> None:
    folder = fateful_model(tmp_path / "fateful")
    (folder / "steps.py").write_text(
        (folder / "steps.py").read_text() + "\nif os.environ.get('ON_THE_DEVICE'):\n    os._exit(3)\n"
    )
    words = command(home, "--port", "0", *install(factory, factory.bundle(folder)))
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=START, check=False, env={**os.environ, "ON_THE_DEVICE": "1"}
    )
    assert done.returncode == 1
    assert "exit code 3" in done.stderr
    assert not home.state.exists() or json.loads(home.state.read_text())["active"] is None


@pytest.mark.slow
def test_one_that_cannot_be_loaded_any_more_gives_way_to_the_one_before(
    home: Home, factory: Factory, bundle: Path, tmp_path: Path
) -> None:
    write_settings(home, {"watch": {"seconds": 0.1}})
    with agent(home, *install(factory, bundle)):
        pass
    folder = fateful_model(tmp_path / "fateful")
    (folder / "steps.py").write_text(
        (folder / "steps.py").read_text() + "\nif os.environ.get('LATER'):\n    os._exit(3)\n"
    )
    with agent(home, *install(factory, factory.bundle(folder))):
        eventually(lambda: json.loads(home.state.read_text())["active"] == "b", START)
    words = command(home, "--port", "0")
    later = {**os.environ, "LATER": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=START, check=False, env=later)
    assert done.returncode == 1
    assert "from the next start on fateful 1 (slot a) is used" in done.stderr
    with agent(home, env=later) as device:
        assert device.status["slot"] == "a"


@pytest.mark.slow
def test_one_that_cannot_be_loaded_any_more_gives_way_to_a_bundle_that_is_handed_over(
    home: Home, factory: Factory, bundle: Path, tmp_path: Path
) -> None:
    folder = fateful_model(tmp_path / "fateful")
    (folder / "steps.py").write_text(
        (folder / "steps.py").read_text() + "\nif os.environ.get('LATER'):\n    os._exit(3)\n"
    )
    with agent(home, *install(factory, factory.bundle(folder))):
        pass
    later = {**os.environ, "LATER": "1"}
    words = command(home, "--port", "0", *install(factory, bundle))
    done = subprocess.run(words, capture_output=True, text=True, timeout=START, check=False, env=later)
    assert done.returncode == 1
    assert "from the next start on fateful 1 (slot b) is used" in done.stderr
    with agent(home, *install(factory, bundle), env=later) as device:
        assert device.status["slot"] == "b"


def test_one_agent_per_home(home: Home, factory: Factory, bundle: Path, fails: Callable[..., str]) -> None:
    with agent(home, *install(factory, bundle)) as device:
        assert "another agent runs" in fails(home)
        assert predict(device, [1.0, 2.0]) == {"predictions": [[1.0, 2.0]]}


def test_a_home_with_a_long_name_has_a_status(tmp_path: Path, factory: Factory, bundle: Path) -> None:
    with agent(Home(tmp_path / ("long" * 30) / "home"), *install(factory, bundle)) as device:
        assert device.ask_status()["ready"]


def test_a_port_that_is_taken_is_told(home: Home, factory: Factory, bundle: Path, fails: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port}" in fails(home, *install(factory, bundle), "--port", port)


def test_what_runs_is_finished_on_sigterm(home: Home, factory: Factory, bundle: Path, tmp_path: Path) -> None:
    folder = fateful_model(tmp_path / "fateful")
    (folder / "steps.py").write_text(
        (folder / "steps.py").read_text().replace("time.sleep(600)", "time.sleep(0.7)"), encoding="utf-8"
    )
    with agent(home, *install(factory, factory.bundle(folder))) as device:
        with socket.create_connection(("127.0.0.1", device.port), timeout=60) as wire:
            wire.sendall(post("/v1/models/fateful:predict", {"instances": [[HANGS, 0.0]]}))
            assert device.ask_status()["total"]["predictions"] == 0, "it runs yet"
            device.process.send_signal(signal.SIGTERM)
            received = b""
            while data := wire.recv(65536):
                received += data
        assert received.startswith(b"HTTP/1.1 200")
        assert device.process.wait(30) == 0


def test_a_worker_that_dies_is_replaced_and_shown(home: Home, factory: Factory, bundle: Path) -> None:
    with agent(home, *install(factory, bundle)) as device:
        (worker,) = children(device.process.pid)
        os.kill(worker, signal.SIGKILL)
        assert predict(device, [1.0, 2.0]) == {"predictions": [[1.0, 2.0]]}
        assert device.ask_status()["restarts"] == 1
        assert "error" in predict(device, [KILLER, 0.0])
        assert predict(device, [5.0, 6.0]) == {"predictions": [[5.0, 6.0]]}


def test_lines_in_and_answers_out_and_the_end_of_them_ends_the_agent(
    home: Home, factory: Factory, bundle: Path, tmp_path: Path
) -> None:
    write_settings(home, {"inputs": [{"type": "stdin"}], "outputs": [{"type": "file", "path": "out.jsonl"}]})
    lines = tmp_path / "lines"
    lines.write_text("".join(f"[{n}, 0]\n" for n in range(50)) + "nonsense\n")
    answers = tmp_path / "answers"
    with (
        lines.open("rb") as given,
        answers.open("wb") as taken,
        agent(home, *install(factory, bundle), wait=False, stdin=given, stdout=taken) as device,
    ):
        assert device.process.wait(START) == 0
    said = [json.loads(line) for line in answers.read_text().splitlines()]
    assert said[:50] == [[float(n), 0.0] for n in range(50)]
    assert "error" in said[50]
    told = [json.loads(line) for line in (home.folder / "out.jsonl").read_text().splitlines()]
    assert [item["predictions"][0][0] for item in told if "error" not in item] == list(range(50))


def test_rules_act_on_what_comes_over_http(home: Home, factory: Factory, tmp_path: Path) -> None:
    folder = artifacts.lookup(tmp_path / "look" / "model.onnx").parent
    (folder / "model.yaml").write_text("actions: [{output: y, above: 30, file: alarms.jsonl}]\n", encoding="utf-8")
    with agent(home, *install(factory, factory.bundle(folder, rows=[1]))) as device:
        assert ask(device.port, post("/v1/models/look:predict", b"{")).status == 400
        assert ask(device.port, post("/v1/models/look:predict", {"instances": [99]})).status == 400
        for number in (1, 5, 2, 4):
            ask(device.port, post("/v1/models/look:predict", {"instances": [number]}))
        assert stop(device.process) == 0
    alarms = [json.loads(line) for line in (home.folder / "alarms.jsonl").read_text().splitlines()]
    assert len(alarms) == 2
    assert all(alarm["source"] == "http" and alarm["model"] == "look" for alarm in alarms)


def test_systemd_is_told_when_it_is_ready_lives_and_stops(
    home: Home, factory: Factory, bundle: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(START)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with agent(home, *install(factory, bundle), wait=False, env={**os.environ, **told}) as device:
            until_told(manager, b"READY=1")
            until_told(manager, b"WATCHDOG=1")
            until_told(manager, b"WATCHDOG=1")
            device.process.terminate()
            until_told(manager, b"STOPPING=1")
            assert device.process.wait(30) == 0


def until_told(manager: socket.socket, what: bytes) -> None:
    while what not in manager.recv(4096):
        pass


def test_the_unit_file_is_printed(home: Home, factory: Factory, bundle: Path) -> None:
    words = command(home, "--systemd", *install(factory, bundle), "--port", "1")
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "Type=notify" in done.stdout
    assert f"--home {home.folder} --bundle {bundle} --trust {factory.trust} --port" in done.stdout


# Killed at any moment


@pytest.mark.parametrize("moments", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_it_starts_again_wherever_it_was_killed(home: Home, factory: Factory, bundle: Path, moments: int) -> None:
    words, chance = install(factory, bundle), random.Random(7)
    for _ in range(moments):
        with agent(home, *words, wait=False) as device:
            time.sleep(chance.uniform(0.0, 1.2))
            os.kill(device.process.pid, signal.SIGKILL)
            device.process.wait(30)
    with agent(home, *words) as device:
        assert predict(device, [1.0, 2.0]) == {"predictions": [[1.0, 2.0]]}
        eventually(lambda: len(workers_of(home)) == 0)


def workers_of(home: Home) -> list[int]:
    """Workers without an agent that were started for a home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            if parent == 1 and (str(home.folder).encode() in words or b"forwardpass.engine.solo" in words):
                found.append(int(entry.name))
    return found
