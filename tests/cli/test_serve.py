"""``serve`` as a process: what it prints works, and it starts and stops as it should."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import artifacts
from typer.testing import CliRunner

from forwardpass.artifacts import ARTIFACTS
from forwardpass.cli.client import Client
from forwardpass.cli.main import app
from forwardpass.cli.sources import Table
from forwardpass.errors import BackendFailed, InvalidInput, NotFound, NotReady


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "forwardpass", "serve", *arguments, "--no-grpc"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed; a process that does not end is killed, so that none is left behind."""
    try:
        return process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Running:
    url: str
    greeting: str
    folder: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("repository")
    artifacts.identity(folder / "echo" / "model.onnx", "BYTES", ["N"])
    (folder / "echo" / "sample.txt").write_text("it's text")
    (folder / "echo" / "model.yaml").write_text("inputs: {x: {type: text}}\ndescription: Says it again\n")
    artifacts.affine(folder / "sampled" / "1" / "model.onnx", inputs=2, outputs=2)
    artifacts.affine(folder / "sampled" / "2" / "model.onnx", inputs=2, outputs=3)
    (folder / "sampled" / "sample.json").write_text('{"instances": [[1, 2]]}')
    artifacts.identity(folder / "wide" / "model.onnx", "FP32", ["N", 3, 50, 50])
    artifacts.identity(folder / "broken" / "model.onnx")
    (folder / "broken" / "model.yaml").write_text("wat: 1\n")
    process = start(".", "--port", "0", cwd=folder)
    assert process.stdout is not None
    said = process.stdout.readline()
    while "models/wide:predict" not in said:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        said += line
    yield Running(said.split()[2], said, folder)
    process.send_signal(signal.SIGINT)
    _, errors = finish(process)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_every_model_is_shown_with_its_state(server: Running) -> None:
    rows = [re.split(r"  +", line) for line in server.greeting.splitlines()]
    assert ["echo", "1", "READY", "1 replica of 1 thread", "Says it again"] in rows
    assert ["sampled", "2", "READY", "1 replica of 1 thread"] in rows
    (broken,) = [row for row in rows if row[:1] == ["broken"]]
    assert broken[2] == "UNAVAILABLE"
    assert "unknown key 'wat'" in broken[3]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine to paste the lines to")
def test_the_curl_lines_work_when_pasted(server: Running) -> None:
    lines = [line for line in server.greeting.splitlines() if "curl " in line]
    assert len(lines) == 3
    answers = []
    for line in lines:
        pasted = subprocess.run(line, shell=True, cwd=server.folder, capture_output=True, text=True, check=True)
        answers.append(json.loads(pasted.stdout)["predictions"])
    assert answers[0] == ["it's text"]
    assert len(answers[1][0]) == 3  # of version 2, the newest
    assert answers[2] == [[[[0.0] * 50] * 50] * 3]


def test_predict_asks_a_server(server: Running, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("one\ntwo\n")
    runner = CliRunner()
    asked = runner.invoke(app, ["predict", "echo", str(tmp_path / "rows.txt"), "--url", server.url, "--json"])
    assert [json.loads(line) for line in asked.stdout.splitlines()] == ["one", "two"]
    asked = runner.invoke(app, ["predict", "echo", "--url", server.url])
    assert asked.exit_code == 2  # there is no sample here


def test_models_of_a_server(server: Running) -> None:
    result = CliRunner().invoke(app, ["models", "--url", server.url])
    rows = [line.split(maxsplit=3) for line in result.stdout.splitlines()]
    assert ["echo", "1", "READY", "Says it again"] in rows
    assert [row[2] for row in rows if row[0] == "broken"] == ["UNAVAILABLE"]


def test_the_client_sends_rows_and_tables_to_the_version_it_is_told(server: Running) -> None:
    client = Client(server.url + "/")
    assert len(client.predict("sampled", [[1, 2]])[0]) == 3
    assert len(client.predict("sampled/1", [[1, 2]])[0]) == 2
    assert client.predict("sampled/1", Table(["a", "b"], [["1", "2"]])) == client.predict("sampled/1", [[1, 2]])
    assert client.predict("echo", [b"caf\xc3\xa9"]) == ["café"]


def test_errors_of_the_server_keep_their_kind(server: Running) -> None:
    client = Client(server.url)
    with pytest.raises(NotFound, match=r"no model 'ekko'.*echo"):
        client.predict("ekko", ["a"])
    with pytest.raises(InvalidInput, match="not a text"):
        client.predict("echo", [3])
    with pytest.raises(NotReady, match="wat"):
        client.predict("broken", [3])


def test_a_port_that_is_taken(server: Running) -> None:
    port = server.url.rpartition(":")[2]
    process = start(".", "--port", port, cwd=server.folder)
    said, errors = finish(process)
    assert process.returncode == 1
    assert said == ""
    assert f"forwardpass: cannot listen on 127.0.0.1:{port}: Address already in use" in errors
    assert "Traceback" not in errors


def test_nothing_to_serve(tmp_path: Path) -> None:
    process = start(str(tmp_path), cwd=tmp_path)
    said, errors = finish(process)
    assert process.returncode == 1
    assert said == ""
    assert errors == (
        f"forwardpass: {tmp_path}: there is no model in this folder; a model is a file "
        f"({', '.join(ARTIFACTS)}) or a folder with one\n"
    )


def test_ctrl_c_before_it_is_ready_is_quiet(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "model.onnx")
    process = start("model.onnx", "--port", "0", cwd=tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():  # until the template is on its way
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of them hear it
    _, errors = finish(process)
    assert process.returncode in (0, -signal.SIGINT)
    assert "Traceback" not in errors


class _NoForwardpass(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200 if "words" in self.path else 500)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server_that_is_something_else() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _NoForwardpass) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        client = Client(f"http://127.0.0.1:{other.server_port}")
        try:
            with pytest.raises(BackendFailed, match="answered 500; is it a Forwardpass server"):
                client.predict("m", [1])
            with pytest.raises(BackendFailed, match="did not answer with JSON"):
                client.predict("words", [1])
        finally:
            other.shutdown()
            thread.join()
