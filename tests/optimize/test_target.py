"""Measuring on another machine: over a real SSH server where there is one, and its far end by itself.

The other machine is this one with its temporary files in a folder of its own, which must be empty in the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import IO

import numpy as np
import pytest
from tests import artifacts
from tests.optimize import candidates, sshd
from tests.optimize.candidates import Copy, Crashing, Full, Hanging

from forwardpass import __version__
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, InvalidInput
from forwardpass.optimize import report
from forwardpass.optimize.measure import ProbeFailed, Probes
from forwardpass.optimize.optimize import Optimizer
from forwardpass.optimize.prepare import Options
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes.stage import StagedRecipe
from forwardpass.optimize.targets import Target, TargetFailed, create_target, far, link
from forwardpass.optimize.targets.link import Answer, Broken, Hello, Missing, Task
from forwardpass.optimize.targets.local import Local
from forwardpass.optimize.targets.payload import pack
from forwardpass.optimize.targets.ssh import MODULE, Address, Ssh, parse_address
from forwardpass.types import Columns

needs_sshd = pytest.mark.skipif(bool(sshd.LACKING), reason=f"OpenSSH is not installed: {', '.join(sshd.LACKING)}")
ROWS: Columns = {"x": np.random.default_rng(0).standard_normal((50, candidates.FEATURES)).astype(np.float32)}


@pytest.fixture(scope="module")
def server() -> Iterator[sshd.Server]:
    with sshd.temporary() as found:
        yield found


@pytest.fixture
def there(server: sshd.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[sshd.Server]:
    """The server, as ``ssh`` reaches it; nothing may be left on it."""
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    yield server
    until(lambda: not list(server.folder.iterdir()))


@contextmanager
def opened(server: sshd.Server, python: str = "", reopening: float = 60.0) -> Iterator[Ssh]:
    target = Ssh(parse_address(server.name), python or server.python(), reopening)
    try:
        yield target
    finally:
        target.close()


def probes(folder: Path, target: Target | None = None, timeout: float = 60) -> Probes:
    found = Probes(folder / "probe", threads=1, seconds=0.05, timeout=timeout, target=target)
    found.use(ROWS)
    return found


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it did not come about"
        sleep(0.02)


# Names and files


def test_local_is_this_machine() -> None:
    target = create_target("local")
    assert isinstance(target, Local)
    assert "onnxruntime" not in target.host().lacks
    assert target.host().libraries["forwardpass"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("edge", Address("edge")),
        ("pi@edge-7.local", Address("pi@edge-7.local")),
        ("pi@10.0.0.7:2222", Address("pi@10.0.0.7", 2222)),
        ("root@[fe80::1%eth0]:22", Address("root@fe80::1%eth0", 22)),
    ],
)
def test_machines_are_named_as_for_ssh(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert create_target(text).name == str(address)


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "-x@edge", "a b", "edge:", "edge:0", "edge:99999", "a@b@c"])
def test_what_names_no_machine_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"it must be local, or a machine that ssh knows: host, user@host"):
        create_target(text)


def test_what_belongs_to_a_model_travels_under_names_that_keep_its_name(tmp_path: Path) -> None:
    for version in ("1", "2"):
        artifacts.identity(tmp_path / "m" / version / "model.onnx")
    (tmp_path / "m" / "model.yaml").write_text("description: of both\n")
    (tmp_path / "m" / "labels.txt").write_text("a")
    (tmp_path / "m" / ".hidden").write_text("a")
    (tmp_path / "m" / "2" / "model.onnx.data").write_text("a")
    found = pack(tmp_path / "m" / "2")
    assert found.path == "m/2"
    assert sorted(found.files) == ["m/2/model.onnx", "m/2/model.onnx.data", "m/labels.txt", "m/model.yaml"]
    assert found.files["m/labels.txt"] == tmp_path / "m" / "labels.txt"

    artifacts.identity(tmp_path / "several" / "other.onnx")
    (tmp_path / "several" / "nobodys").touch()
    assert pack(tmp_path / "several" / "other.onnx").path == "other/other.onnx"
    assert list(pack(tmp_path / "several" / "other.onnx").files) == ["other/other.onnx"]

    artifacts.identity(tmp_path / "own" / "5" / "model.onnx")
    (tmp_path / "own" / "5" / "model.yaml").write_text("description: of this one\n")
    assert pack(tmp_path / "own" / "5").path == "own/5"
    assert sorted(pack(tmp_path / "own" / "5").files) == ["own/5/model.onnx", "own/5/model.yaml"]


# The far end by itself


@contextmanager
def far_end(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        link.skip_noise(process.stdout)
        yield process, process.stdin, process.stdout
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def task(path: Path, rows: Path, timeout: float = 60) -> tuple[Task, dict[str, Path]]:
    packed = pack(path)
    files = {**packed.files, "rows.npz": rows}
    described = {name: link.file_of(file) for name, file in files.items()}
    return Task(described, packed.path, "rows.npz", True, 1, 0.0, timeout), files


def test_files_travel_once_and_nothing_stays(tmp_path: Path) -> None:
    model = candidates.parent(tmp_path / "m", 0)
    probes(tmp_path)
    first, files = task(model, tmp_path / "probe" / "rows.npz")
    with far_end(tmp_path / "far") as (_, to, heard):
        hello = link.hear(heard, Hello)
        assert (hello.version, Path(hello.folder).parent) == (__version__, tmp_path / "far")
        link.say(to, first)
        assert sorted(link.hear(heard, Missing).files) == ["m/model.onnx", "m/model.yaml", "m/steps.py", "rows.npz"]
        for name in first.files:
            link.send_file(to, files[name])
        answer = link.hear(heard, Answer)
        assert (answer.failed, answer.refused) == ("", "")
        assert len(b"".join(link.chunks(heard, answer.predictions))) == answer.predictions > 0
        candidates.write_steps(model, 0.001)
        link.say(to, task(model, files["rows.npz"])[0])
        assert link.hear(heard, Missing).files == ["m/steps.py"]
    assert not list((tmp_path / "far").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["its input ends", signal.SIGTERM, signal.SIGHUP])
def test_nothing_runs_on_and_nothing_stays_however_it_ends(tmp_path: Path, how: str | signal.Signals) -> None:
    """A model that hangs, and writes down which process it hangs in."""
    model = candidates.parent(tmp_path / "m", 0)
    said = tmp_path / "pid"
    hang = f"[open({str(said)!r}, 'w').write(str(os.getpid())), time.sleep(600)]"
    candidates.write_steps(model, 0, hang)
    probes(tmp_path)
    order, files = task(model, tmp_path / "probe" / "rows.npz", timeout=600)
    with far_end(tmp_path / "far") as (process, to, heard):
        link.hear(heard, Hello)
        link.say(to, order)
        for name in link.hear(heard, Missing).files:
            link.send_file(to, files[name])
        until(lambda: said.is_file() and said.read_text())
        if isinstance(how, signal.Signals):
            process.send_signal(how)
            process.wait(60)
    until(lambda: not Path(f"/proc/{said.read_text()}").exists())
    assert not list((tmp_path / "far").iterdir())


def test_what_a_killed_one_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("forwardpass-target-dead", "forwardpass-target-young", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    os.utime(tmp_path / "forwardpass-target-dead", (0, 0))
    with far.own_folder() as live:
        os.utime(live, (0, 0))
        with far.own_folder():
            assert live.is_dir(), "one that lives is left alone"
            assert not (tmp_path / "forwardpass-target-dead").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forwardpass-target-young", "others"]


def test_it_needs_nothing_that_a_device_lacks() -> None:
    """It is imported where neither tables nor terminals are installed."""
    code = f"import sys, {MODULE}; print(sorted({{'pyarrow', 'typer', 'rich', 'onnx', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_what_does_not_speak_as_we_do_is_told() -> None:
    heard, said = (os.fdopen(end, mode, buffering=0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    with heard, said:
        said.write(b"Welcome!\n\xff" * 3 + link.MARK + b"{}      ....")
        link.skip_noise(heard)
        with pytest.raises(Broken, match="does not speak as Forwardpass does"):
            link.hear(heard, Hello)
        writer = threading.Thread(target=said.write, args=(b"x" * 70_000,))
        writer.start()
        with pytest.raises(Broken, match="prints too much"):
            link.skip_noise(heard)
        os.read(heard.fileno(), 2**17)
        writer.join()


# Over SSH


@needs_sshd
def test_measured_there_as_here(there: sshd.Server, tmp_path: Path) -> None:
    """A login that greets, one connection for all, and nothing left when it closes."""
    model = candidates.parent(tmp_path / "m", 0.001)
    with opened(there, there.python("echo Welcome; ")) as target:
        measured = probes(tmp_path, target)
        assert target.host().machine == Local().host().machine
        np.testing.assert_array_equal(
            measured.predict(model).columns["y"], probes(tmp_path).predict(model).columns["y"]
        )
        figures = measured.time(model, 7)
        assert 0.001 < figures.p50 <= figures.p99
        assert figures.size == 7
        assert len(list(there.folder.iterdir())) == 1


def test_a_machine_that_is_not_there() -> None:
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's client is not installed")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TargetFailed, match=f"{name} cannot be reached: .*Connection refused"):
            Ssh(parse_address(name)).host()


def test_no_ssh_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetFailed, match="edge: there is no ssh on this machine"):
        Ssh(parse_address("edge")).host()


@needs_sshd
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_why_a_machine_cannot_be_used(there: sshd.Server, tmp_path: Path) -> None:
    def reason(python: str) -> str:
        with opened(there, python) as target, pytest.raises(TargetFailed) as raised:
            target.host()
        return str(raised.value).replace(there.name, "EDGE")

    assert "EDGE has no such Python (" in reason("nosuchpython")
    assert "say how Python is started there with --target-command (now: nosuchpython)" in reason("nosuchpython")
    bare = f"{sys.executable} -S"
    assert reason(bare).startswith(f"EDGE has no forwardpass for this Python: install forwardpass {__version__} there")
    (tmp_path / "old" / "forwardpass").mkdir(parents=True)
    (tmp_path / "old" / "forwardpass" / "__init__.py").touch()
    old = there.python(PYTHONPATH=tmp_path / "old")
    assert reason(old).startswith("EDGE has another version of forwardpass: install forwardpass")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sitecustomize.py").write_text("import forwardpass; forwardpass.__version__ = '0.0.9'\n")
    other = reason(there.python(PYTHONPATH=tmp_path / "other"))
    assert other == f"EDGE has forwardpass 0.0.9, here is {__version__}: both must be the same"
    assert reason("echo bad luck >&2; exit 3;").startswith("EDGE: bad luck; it was started with: ")


@needs_sshd
@pytest.mark.slow
def test_keys_that_do_not_fit(there: sshd.Server) -> None:
    config, known = there.config.read_text(), there.config.with_name("known_hosts")
    try:
        there.config.write_text(config.replace("/client\n", "/stranger\n"))
        with opened(there) as target, pytest.raises(TargetFailed, match="refused this machine's keys"):
            target.host()
        there.config.write_text(config.replace(str(known), "/dev/null"))
        with opened(there) as target, pytest.raises(TargetFailed, match="is not known, or its key has changed"):
            target.host()
    finally:
        there.config.write_text(config)


@needs_sshd
@pytest.mark.slow
def test_a_model_that_fails_there_is_told_as_here(there: sshd.Server, tmp_path: Path) -> None:
    model = candidates.parent(tmp_path / "m", 0)
    with opened(there) as target:
        measured = probes(tmp_path, target, timeout=3)
        candidates.write_steps(model, 0, "os.abort()")
        with pytest.raises(ProbeFailed, match="its process was killed by SIGABRT"):
            measured.predict(model)
        candidates.write_steps(model, 0, "time.sleep(600)")
        with pytest.raises(ProbeFailed, match="its process did not end within 3 s"):
            measured.predict(model)
        (model / "model.onnx").write_bytes(b"nothing")
        with pytest.raises(ProbeFailed, match=r"model\.onnx") as raised:
            measured.predict(model)
        assert str(there.folder) not in str(raised.value)


@needs_sshd
@pytest.mark.slow
def test_a_model_that_takes_the_connection_with_it_costs_itself_alone(there: sshd.Server, tmp_path: Path) -> None:
    """It kills the far end, which cannot clean up: the next one does."""
    bad, good = candidates.parent(tmp_path / "bad", 0), candidates.parent(tmp_path / "good", 0)
    candidates.write_steps(bad, 0, "os.kill(os.getppid(), 9)")
    with opened(there) as target:
        measured = probes(tmp_path, target)
        with pytest.raises(ProbeFailed, match=r"the connection to .* broke twice while it was measured"):
            measured.predict(bad)
        assert len(measured.predict(good).columns["y"]) == 50
        target.close()
        left = list(there.folder.iterdir())
        assert len(left) == 2
        for folder in left:
            os.utime(folder, (0, 0))
        target.host()
        assert len(measured.predict(good).columns["y"]) == 50


@needs_sshd
@pytest.mark.slow
def test_a_connection_that_breaks_once_is_opened_again(there: sshd.Server, tmp_path: Path) -> None:
    model = candidates.parent(tmp_path / "m", 0)
    once = tmp_path / "once"
    candidates.write_steps(
        model, 0, f"not os.path.exists({str(once)!r}) and (open({str(once)!r}, 'w'), time.sleep(600))"
    )
    with opened(there) as target:
        measured = probes(tmp_path, target)
        assert target._connection is None
        target.host()
        connection = target._connection
        assert connection is not None
        cut = threading.Thread(target=lambda: (until(once.exists), connection._process.kill()))
        cut.start()
        assert len(measured.predict(model).columns["y"]) == 50
        cut.join()
        assert target._connection is not connection


@needs_sshd
@pytest.mark.slow
def test_a_full_disk_there(there: sshd.Server, tmp_path: Path) -> None:
    """No file there may be larger than a kibibyte or so."""
    model = candidates.parent(tmp_path / "m", 0)
    (model / "weights.bin").write_bytes(os.urandom(300_000))
    with opened(there, there.python("ulimit -f 16; ")) as target:
        with pytest.raises(TargetFailed, match=r"cannot store the model in .*: File too large\. Make room there, or"):
            probes(tmp_path, target).predict(model)
        (model / "weights.bin").unlink()
        assert len(probes(tmp_path, target).predict(model).columns["y"]) == 50


# Whole searches


class OnOpenVino(StagedRecipe):
    name, title, backend = "ov", "OpenVINO", BackendConfig("openvino")

    def unsuitable(self, parent: Parent) -> str:
        return ""

    def make(self, parent: Parent, folder: Path) -> None:
        raise AssertionError("it must not be made")


@pytest.fixture
def options(tmp_path: Path) -> Options:
    data = candidates.held_out(tmp_path / "rows.parquet", 2000)
    return Options((str(data),), seconds=0.05, rounds=1, threads=1, patience=20.0)


@needs_sshd
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_search_on_another_machine(there: sshd.Server, tmp_path: Path, options: Options) -> None:
    model = candidates.parent(tmp_path / "slow")
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "sitecustomize.py").write_text("import sys; sys.modules['openvino'] = None\n")
    recipes = [OnOpenVino(), Crashing("crashing"), Full("full"), Copy("quick")]
    python = there.python(PYTHONPATH=tmp_path / "lacking")
    with pytest.raises(BackendFailed, match="No space left on device; what is done is kept"):
        Optimizer(model, options, recipes, target=create_target(there.name, python)).run()
    resumed = replace(options, resume=True)
    with pytest.raises(InvalidInput, match="--target is gone"):
        Optimizer(model, resumed, recipes).run()
    del recipes[2]
    found = Optimizer(model, resumed, recipes, target=create_target(there.name, python)).run()
    reasons = {entry.name: entry.reason for entry in found.entries}
    assert reasons["ov"] == f"not tried: {there.name} has no openvino"
    assert reasons["crashing"].startswith("failed: its process was killed by SIGABRT")
    assert (found.winner, found.target) == ("quick", there.name)
    lineage = json.loads((tmp_path / "slow-optimized" / "lineage.json").read_text())
    assert lineage["target"] == there.name
    assert lineage["machine"] == found.machine
    assert lineage["libraries"] == found.libraries
    assert lineage["made_with"]["forwardpass"]
    assert f"Measured on {there.name}: " in report.markdown(found)


@needs_sshd
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_machine_that_goes_away_stops_the_search_which_can_be_resumed(
    tmp_path: Path, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends when the second candidate is measured: nobody can tell how good that one is."""
    model = candidates.parent(tmp_path / "slow")
    with sshd.temporary() as server:
        monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
        address = parse_address(server.name)
        recipes = [Copy("quick"), Hanging("hanging")]

        def cut() -> None:
            until(lambda: "quick" in told)
            server.config.write_text("ProxyCommand false\n")  # whoever connects again finds nobody
            connection = target._connection
            assert connection is not None
            connection._process.kill()

        told: list[str] = []
        target = Ssh(address, server.python(), reopening=1.0)
        cutter = threading.Thread(target=cut)
        cutter.start()
        optimizer = Optimizer(
            model,
            options,
            recipes,
            target=target,
            on_progress=lambda at: told.append(at.entry.name if at.entry else ""),
        )
        with pytest.raises(BackendFailed, match=r"cannot be reached: .*; what is done is kept, go on with --resume"):
            optimizer.run()
        cutter.join()
        ledger = (tmp_path / "slow-optimized.optimize" / "ledger.jsonl").read_text()
        assert '"name":"quick"' in ledger
        assert '"name":"hanging"' not in ledger
        until(lambda: not list(server.folder.iterdir()))
